//! How a command fails: a problem, its exit code, and what else is known.

use helix_client::ClientError;
use helix_model::api::LogLine;
use helix_model::{Code, Problem, Reason, explain};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What every fallible step of a command returns.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command ends with something else than zero.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What to say.
    pub(crate) problem: Box<Problem>,
    /// What the process returns.
    pub(crate) exit_code: u8,
    /// The stable reason, where a workload is to blame.
    pub(crate) reason: Option<String>,
    /// What the failed program said last.
    pub(crate) logs: Vec<LogLine>,
    /// More members for the JSON document, such as the receipt.
    pub(crate) also: Map<String, Value>,
    /// Nobody reads any more (`helix logs | head`), so there is nothing to say.
    pub(crate) silent: bool,
}

impl Failure {
    /// A failure with the code's own exit code.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Failure {
        Problem::new(code, detail).into()
    }

    /// A mistake in what was typed.
    pub(crate) fn usage(detail: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure::new(Code::InvalidArgument, detail).hint(hint)
    }

    /// A workload that failed for a reason with a code of its own.
    pub(crate) fn workload(reason: &str, detail: impl Into<String>) -> Failure {
        let code = match reason {
            "image_not_found" => Code::ImageNotFound,
            "deploy_superseded" => Code::Conflict,
            _ => Code::WorkloadFailed,
        };
        let mut failure = Failure::new(code, detail);
        if let Some(known) = Reason::from_code(reason) {
            failure = failure.hint(explain::advice(known));
        }
        failure.reason = Some(reason.to_owned());
        failure
    }

    /// The reader of standard output has gone.
    pub(crate) fn output_closed() -> Failure {
        let mut failure = Failure::new(Code::Internal, "standard output was closed");
        failure.silent = true;
        failure.exit_code = 0;
        failure
    }

    /// The same with a hint that fits better.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.problem.hint = hint.into();
        self
    }

    /// The same with one more member in the JSON document.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &impl Serialize) -> Failure {
        let value = serde_json::to_value(value).unwrap_or(Value::Null);
        self.also.insert(name.to_owned(), value);
        self
    }

    /// The code shown: the reason where there is one, it says more.
    pub(crate) fn code(&self) -> &str {
        self.reason.as_deref().unwrap_or_else(|| self.problem.code.as_str())
    }

    /// The one JSON document of a failed command.
    pub(crate) fn document(&self) -> Value {
        let mut error = serde_json::to_value(&self.problem).unwrap_or_else(|_| json!({}));
        if let Some(error) = error.as_object_mut() {
            error.insert("exit_code".to_owned(), json!(self.exit_code));
            if let Some(reason) = &self.reason {
                error.insert("reason".to_owned(), json!(reason));
            }
            if !self.logs.is_empty() {
                error.insert("logs".to_owned(), json!(self.logs));
            }
        }
        let mut document = self.also.clone();
        document.insert("error".to_owned(), error);
        Value::Object(document)
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure {
            exit_code: problem.code.exit_code(),
            problem: Box::new(problem),
            reason: None,
            logs: Vec::new(),
            also: Map::new(),
            silent: false,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        error.into_problem().into()
    }
}
