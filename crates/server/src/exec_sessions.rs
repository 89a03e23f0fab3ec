//! Commands that run in instances now: how many there may be, and how many may
//! be begun.
//!
//! Each replica counts what the nodes linked to it run, so the limit of an instance
//! holds exactly and that of an env as long as its nodes are linked to one replica.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use helix_model::{Code, Env, Id, Instance, Org, Problem};

use crate::auth::buckets::{Buckets, Rate};

/// At a time in one instance: a shell, a look at a file and a script beside it.
/// Each takes memory of the instance.
const PER_INSTANCE: usize = 5;

/// At a time in one env.
const PER_ENV: usize = 10;

/// Begun per org: a hundred at once, then two a minute. A program that needs more
/// belongs into a process of its own.
const BEGUN: Rate = Rate { burst: 100, per_minute: 2 };

/// What one who was refused is told to wait for.
const RETRY: Duration = Duration::from_secs(10);

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub org: Id<Org>,
    pub env: Id<Env>,
    pub instance: Id<Instance>,
}

/// All that run.
pub(crate) struct ExecSessions {
    open: Arc<Mutex<HashMap<Id<Instance>, Open>>>,
    begun: Buckets<Id<Org>>,
}

struct Open {
    env: Id<Env>,
    count: usize,
}

/// One that runs, until it is dropped.
pub(crate) struct Running {
    open: Arc<Mutex<HashMap<Id<Instance>, Open>>>,
    instance: Id<Instance>,
}

impl ExecSessions {
    pub(crate) fn new() -> ExecSessions {
        ExecSessions { open: Arc::default(), begun: Buckets::new(BEGUN) }
    }

    /// Counts one in. Operators are not held to a number of beginnings: theirs is
    /// the machine.
    ///
    /// # Errors
    /// `rate_limited` when there are too many.
    pub(crate) fn begin(&self, at: At, is_operator: bool) -> Result<Running, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let here = open.get(&at.instance).map_or(0, |it| it.count);
        if here >= PER_INSTANCE {
            return Err(too_many(format!("{here} commands run in this instance")));
        }
        let beside: usize = open.values().filter(|it| it.env == at.env).map(|it| it.count).sum();
        if beside >= PER_ENV {
            return Err(too_many(format!("{beside} commands run in this env")));
        }
        if !is_operator {
            let level = self.begun.take(at.org);
            if !level.allowed {
                let detail = format!("this org has begun {} commands lately", level.limit);
                let mut problem = too_many(detail);
                problem.retry_after_seconds = Some(level.wait.as_secs().max(1));
                return Err(problem);
            }
        }
        open.entry(at.instance).or_insert(Open { env: at.env, count: 0 }).count += 1;
        Ok(Running { open: Arc::clone(&self.open), instance: at.instance })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = open.get_mut(&self.instance) {
            here.count -= 1;
            if here.count == 0 {
                open.remove(&self.instance);
            }
        }
    }
}

fn too_many(detail: String) -> Problem {
    let mut problem = Problem::new(Code::RateLimited, detail)
        .hint("end one of them, or wait; `helix audit list` shows who began them");
    problem.retry_after_seconds = Some(RETRY.as_secs());
    problem
}

#[cfg(test)]
mod tests {
    use helix_model::Timestamp;

    use super::*;

    fn at(env: u128, instance: u128) -> At {
        let at = Timestamp(1);
        At { org: Id::new(at, 1), env: Id::new(at, env), instance: Id::new(at, instance) }
    }

    #[test]
    fn there_are_so_many_at_a_time_in_an_instance_and_in_an_env() {
        let sessions = ExecSessions::new();
        let mut running = Vec::new();
        for _ in 0..PER_INSTANCE {
            running.push(sessions.begin(at(1, 1), true).unwrap());
        }
        let refused = sessions.begin(at(1, 1), true).err().unwrap();
        assert_eq!(refused.code, Code::RateLimited);
        for _ in PER_INSTANCE..PER_ENV {
            running.push(sessions.begin(at(1, 2), true).unwrap());
        }
        assert!(sessions.begin(at(1, 3), true).is_err(), "the env has enough");
        assert!(sessions.begin(at(2, 4), true).is_ok(), "another has none");
        running.clear();
        assert!(sessions.begin(at(1, 1), true).is_ok());
    }

    #[test]
    fn an_org_begins_only_so_many() {
        let sessions = ExecSessions::new();
        let begun = (0..200).filter(|_| sessions.begin(at(1, 1), false).is_ok()).count();
        assert_eq!(begun, 100);
        assert!(sessions.begin(at(1, 1), true).is_ok(), "an operator does");
    }
}
