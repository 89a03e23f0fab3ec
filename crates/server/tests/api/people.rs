//! People, tokens and orgs for the tests about who may what.

use helix_model::token::{self, Owner};
use helix_model::{Actor, Command, Id, Name, Permissions, Receipt, Role, Timestamp, Token, User};
use helix_model::{member, org, user};
use helix_server::Origin;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::world::World;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

impl World {
    /// A command as the platform's own, without going through the API.
    pub(crate) async fn command(&self, command: Command) -> Receipt {
        let origin = Origin {
            actor: Actor::System("test".to_owned()),
            request_id: "req_test".to_owned(),
            source: None,
            idempotency: None,
            precondition: None,
        };
        self.engine().submit(command, origin).await.unwrap()
    }

    pub(crate) async fn new_org(&self, text: &str) {
        self.command(Command::CreateOrg(org::Create { name: name(text) })).await;
    }

    pub(crate) async fn new_user(&self, text: &str) -> Id<User> {
        let create = user::Create { name: name(text), operator: false };
        let receipt = self.command(Command::CreateUser(create)).await;
        receipt.subject.unwrap().id.typed().unwrap()
    }

    pub(crate) async fn new_member(&self, org: &str, text: &str, role: Role) -> Id<User> {
        let user = self.new_user(text).await;
        let org = self.engine().state().orgs.named(None, &name(org)).unwrap().id;
        self.command(Command::SetMember(member::Set { org, user, role })).await;
        user
    }

    /// The text of a token that lives for a day.
    pub(crate) async fn token_of(&self, owner: Owner, scopes: Option<Permissions>) -> String {
        self.token_until(owner, scopes, Timestamp(now().0 + DAY_MS)).await
    }

    pub(crate) async fn token_until(
        &self,
        owner: Owner,
        scopes: Option<Permissions>,
        expires_at: Timestamp,
    ) -> String {
        let fresh = helix_server::Token::fresh();
        let count = self.engine().state().tokens.len() + self.engine().state().issued.len();
        let create = token::Create {
            name: name(&format!("t-{count}")),
            spec: Token { owner, scopes, org: None, expires_at },
            hash: fresh.hash().model(),
        };
        self.command(Command::CreateToken(create)).await;
        fresh.reveal().to_owned()
    }

    pub(crate) fn org_id(&self, text: &str) -> Id<helix_model::Org> {
        self.engine().state().orgs.named(None, &name(text)).unwrap().id
    }

    /// A request with this token, or with none.
    pub(crate) fn request_as(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        let request = self.http().request(method, self.url(path));
        if token.is_empty() { request } else { request.bearer_auth(token) }
    }

    pub(crate) async fn get_as(&self, token: &str, path: &str) -> (u16, Value) {
        answer(self.request_as(token, Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let request = self.request_as(token, method, path).json(&body);
        answer(request.send().await.unwrap()).await
    }

    /// Lets a user choose a password with the code an operator gets.
    pub(crate) async fn user_with_password(&self, user: &str, password: &str) {
        let body = json!({ "name": user });
        let (status, made) = self.post("/v1/users", &body, &format!("make-user-{user}")).await;
        assert_eq!(status, 200, "{made}");
        let code = made["setup_code"].as_str().unwrap();
        let form = format!("name={user}&code={code}&password={password}&again={password}");
        let page = self.post_form("/setup", &form).await;
        assert_eq!(page.status(), 200);
    }

    pub(crate) async fn post_form(&self, path: &str, form: &str) -> Response {
        let request = self.http().post(self.url(path)).body(form.to_owned());
        let kind = "application/x-www-form-urlencoded";
        request.header("content-type", kind).send().await.unwrap()
    }

    /// A login from its beginning to a token.
    pub(crate) async fn login(&self, user: &str, password: &str) -> String {
        let body = json!({ "client": "laptop" });
        let (_, started) = self.send_as("", Method::POST, "/v1/auth/device/start", body).await;
        let code = started["user_code"].as_str().unwrap();
        let form = format!("code={code}&name={user}&password={password}&verdict=approve");
        assert_eq!(self.post_form("/device", &form).await.status(), 200);
        let body = json!({ "device_code": started["device_code"] });
        let (status, got) = self.send_as("", Method::POST, "/v1/auth/device/token", body).await;
        assert_eq!(status, 200, "{got}");
        got["token"].as_str().unwrap().to_owned()
    }
}

async fn answer(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
