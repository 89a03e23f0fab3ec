//! Which schema of a database a log has its tables in, and what goes by its name.
//!
//! Start at [`PostgresSchema`]. Connections have it as their `search_path`, so
//! statements name tables without it; only migrations and the trigger functions
//! they make spell it out, because those run for hands at a prompt too.

/// One of the logs that helix keeps in a database, each in a schema of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostgresSchema {
    name: &'static str,
    /// For reads, leases and the sealed table.
    pub(super) connections: u32,
}

/// What the migrations are written for.
const WRITTEN_FOR: &str = "helix";

impl PostgresSchema {
    /// Of the event log. State is read from memory, so a replica needs few
    /// connections.
    pub const EVENTS: PostgresSchema = PostgresSchema { name: WRITTEN_FOR, connections: 6 };

    /// Of the audit log, which is written often and read rarely.
    pub const AUDIT: PostgresSchema = PostgresSchema { name: "helix_audit", connections: 2 };

    /// Every schema that helix makes in a database.
    const ALL: [PostgresSchema; 2] = [PostgresSchema::EVENTS, PostgresSchema::AUDIT];

    pub(super) fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn all_names() -> Vec<&'static str> {
        PostgresSchema::ALL.iter().map(|it| it.name).collect()
    }

    /// Where replicas hear of appends: what the append statement makes of
    /// `current_schema()`.
    pub(super) fn channel(self) -> String {
        format!("{}_log", self.name)
    }

    /// The table that makes the schema recognisable.
    pub(super) fn installation(self) -> String {
        format!("{}.installation", self.name)
    }

    /// A migration, or another statement that spells the schema out, for this
    /// schema.
    pub(super) fn spelled_out(self, statements: &str) -> String {
        statements
            .replace(&format!("{WRITTEN_FOR}."), &format!("{}.", self.name))
            .replace(&format!("SCHEMA {WRITTEN_FOR};"), &format!("SCHEMA {};", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_schema_is_renamed() {
        let text = "CREATE SCHEMA helix; INSERT INTO helix.installation VALUES ('helix-log', 0);";
        assert_eq!(PostgresSchema::EVENTS.spelled_out(text), text);
        assert_eq!(
            PostgresSchema::AUDIT.spelled_out(text),
            "CREATE SCHEMA helix_audit; INSERT INTO helix_audit.installation VALUES ('helix-log', 0);"
        );
    }
}
