//! What can go wrong between here and the server.

use helix_model::{Code, Problem};

/// What every fallible call of this crate returns.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server understood and refused.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// Nobody answered, or the answer broke off.
    #[error("cannot reach the API at {url}")]
    Unreachable {
        /// The base URL.
        url: String,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something answered, but not as the API does.
    #[error("{url} did not answer as a HelixStack API does: {reason}")]
    Malformed {
        /// The URL that was asked.
        url: String,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The address or the token cannot be used at all.
    #[error("`{text}` is not a usable {what}")]
    Unusable {
        /// `API address` or `token`.
        what: &'static str,
        /// The address as given; never a token.
        text: String,
    },
}

impl ClientError {
    /// The stable code this comes down to.
    pub fn code(&self) -> Code {
        match self {
            ClientError::Problem(problem) => problem.code,
            ClientError::Unreachable { .. } => Code::Unavailable,
            ClientError::Malformed { .. } => Code::Internal,
            ClientError::Unusable { .. } => Code::InvalidArgument,
        }
    }

    /// The exit code of a program that ends with this.
    pub fn exit_code(&self) -> u8 {
        self.code().exit_code()
    }

    /// The same as a problem, the one form people and scripts are shown.
    pub fn into_problem(self) -> Problem {
        match self {
            ClientError::Problem(problem) => *problem,
            ClientError::Unreachable { ref source, .. } => {
                let detail = format!("{self}: {}", root(source.as_ref()));
                Problem::new(Code::Unavailable, detail)
                    .hint("start the platform with `helix up`, or set HELIX_URL to where it runs")
            }
            other => {
                let code = other.code();
                let problem = Problem::new(code, other.to_string());
                match other {
                    ClientError::Malformed { .. } => problem
                        .hint("check that HELIX_URL leads to a HelixStack API of this version"),
                    _ => problem.hint("an address looks like `http://127.0.0.1:7420`"),
                }
            }
        }
    }
}

/// The innermost cause: the layers above it only say that a request failed.
fn root<'e>(error: &'e (dyn std::error::Error + 'static)) -> &'e (dyn std::error::Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}
