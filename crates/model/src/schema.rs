//! How the nouns' basic values look on the wire, for the API's description. What
//! is made of them derives its own.

use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::quota::Dimension;
use crate::{AnyId, Code, Kind, Name, Permission, Permissions, Role, Timestamp};

fn text(pattern: &str, description: &str) -> RefOr<Schema> {
    let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
    object.pattern(Some(pattern)).description(Some(description)).into()
}

impl PartialSchema for AnyId {
    fn schema() -> RefOr<Schema> {
        text("^[a-z]{3}_[0-9A-HJKMNP-TV-Z]{26}$", "Any resource's id: its kind and a ULID.")
    }
}

impl ToSchema for AnyId {}

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        text("^[a-z][a-z0-9-]{0,31}$", "A name, unique in its parent.")
    }
}

impl ToSchema for Name {}

impl PartialSchema for Timestamp {
    fn schema() -> RefOr<Schema> {
        let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        object
            .format(Some(utoipa::openapi::SchemaFormat::Custom("date-time".to_owned())))
            .description(Some("RFC 3339, UTC."))
            .into()
    }
}

impl ToSchema for Timestamp {}

impl PartialSchema for Kind {
    fn schema() -> RefOr<Schema> {
        let words = Kind::ALL.into_iter().map(Kind::singular);
        let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        object.enum_values(Some(words)).description(Some("A kind of resource.")).into()
    }
}

impl ToSchema for Kind {}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let codes = Code::ALL.iter().map(|code| code.as_str());
        let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        object.enum_values(Some(codes)).description(Some("What went wrong, stable.")).into()
    }
}

impl ToSchema for Code {}

impl PartialSchema for Role {
    fn schema() -> RefOr<Schema> {
        let words = Role::ALL.into_iter().map(Role::as_str);
        let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        object.enum_values(Some(words)).description(Some("What a member of an org is.")).into()
    }
}

impl ToSchema for Role {}

impl PartialSchema for Permissions {
    fn schema() -> RefOr<Schema> {
        let words = Permission::ALL.iter().map(|one| one.as_str());
        let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        let scope: RefOr<Schema> = object.enum_values(Some(words)).into();
        ArrayBuilder::new().items(scope).description(Some("Scopes.")).into()
    }
}

impl ToSchema for Permissions {}

impl PartialSchema for Dimension {
    fn schema() -> RefOr<Schema> {
        let codes = Dimension::ALL.iter().map(|one| one.code());
        let object = ObjectBuilder::new().schema_type(SchemaType::new(Type::String));
        object.enum_values(Some(codes)).description(Some("What is limited.")).into()
    }
}

impl ToSchema for Dimension {}
