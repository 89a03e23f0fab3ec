//! How often something may be asked: per token and org for those who are known,
//! per source address for those who are not.
//!
//! Each replica counts for itself. Operators are not limited: theirs is the
//! machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use helix_model::{Code, Id, Org, Problem, Token, Tunnel};

use super::buckets::{Buckets, Level, Rate};

/// Of one token. A deploy that is followed with `--json` in a loop stays below.
const TOKEN_READS: Rate = Rate { burst: 3000, per_minute: 3000 };
const TOKEN_WRITES: Rate = Rate { burst: 300, per_minute: 300 };
/// Of all tokens of an org together.
const ORG_READS: Rate = Rate { burst: 12_000, per_minute: 12_000 };
const ORG_WRITES: Rate = Rate { burst: 1200, per_minute: 1200 };
/// Wrong tokens, passwords and codes from one source.
const FAILURES: Rate = Rate { burst: 20, per_minute: 20 };
/// Wrong passwords for one name, from wherever; enough that nobody is locked out
/// of their account for longer than seconds.
const FAILURES_FOR_NAME: Rate = Rate { burst: 30, per_minute: 30 };
/// Logins begun from one source, and polls for them.
const STARTS: Rate = Rate { burst: 20, per_minute: 20 };
const POLLS: Rate = Rate { burst: 120, per_minute: 120 };
/// Fresh tokens for one tunnel; agents need them every few minutes, and once for each
/// edge they lose.
const REFRESHES: Rate = Rate { burst: 30, per_minute: 30 };

/// Tunnels without a login, of one source: a few tries at once, and in an hour fewer than the
/// installation has of them.
const ANONYMOUS_TUNNELS: Rate = Rate { burst: 5, per_minute: 1 };

/// All limits.
pub(crate) struct Limits {
    token_reads: Buckets<Id<Token>>,
    token_writes: Buckets<Id<Token>>,
    org_reads: Buckets<Id<Org>>,
    org_writes: Buckets<Id<Org>>,
    failures: Buckets<IpAddr>,
    failures_for_name: Buckets<String>,
    starts: Buckets<IpAddr>,
    polls: Buckets<IpAddr>,
    refreshes: Buckets<Id<Tunnel>>,
    anonymous_tunnels: Buckets<IpAddr>,
}

impl Limits {
    pub(crate) fn new() -> Limits {
        Limits {
            token_reads: Buckets::new(TOKEN_READS),
            token_writes: Buckets::new(TOKEN_WRITES),
            org_reads: Buckets::new(ORG_READS),
            org_writes: Buckets::new(ORG_WRITES),
            failures: Buckets::new(FAILURES),
            failures_for_name: Buckets::new(FAILURES_FOR_NAME),
            starts: Buckets::new(STARTS),
            polls: Buckets::new(POLLS),
            refreshes: Buckets::new(REFRESHES),
            anonymous_tunnels: Buckets::new(ANONYMOUS_TUNNELS),
        }
    }

    /// Counts a request of a token, which may belong to one org.
    pub(crate) fn request(
        &self,
        token: Id<Token>,
        org: Option<Id<Org>>,
        reads: bool,
    ) -> Result<Level, (Level, Problem)> {
        let (of_token, of_org, what) = if reads {
            (&self.token_reads, &self.org_reads, "reads")
        } else {
            (&self.token_writes, &self.org_writes, "changes")
        };
        let level = of_token.take(token);
        if !level.allowed {
            return Err((level, too_many(level, &format!("{what} of this token"))));
        }
        let Some(org) = org else { return Ok(level) };
        let together = of_org.take(org);
        if !together.allowed {
            return Err((together, too_many(together, &format!("{what} of the org"))));
        }
        Ok(if together.remaining < level.remaining { together } else { level })
    }

    /// Refuses a source or a name that was wrong too often, before anything is
    /// tried.
    pub(crate) fn must_be_few_failures(
        &self,
        source: Option<IpAddr>,
        name: &str,
    ) -> Result<(), Problem> {
        refuse(self.failures.look(key(source)), "failed attempts from this address")?;
        if name.is_empty() {
            return Ok(());
        }
        refuse(self.failures_for_name.look(name.to_owned()), "failed attempts for this name")
    }

    /// Counts a failure.
    pub(crate) fn failed(&self, source: Option<IpAddr>, name: &str) {
        self.failures.take(key(source));
        if !name.is_empty() {
            self.failures_for_name.take(name.to_owned());
        }
    }

    /// Counts a login that is begun.
    pub(crate) fn must_be_few_starts(&self, source: Option<IpAddr>) -> Result<(), Problem> {
        refuse(self.starts.take(key(source)), "logins begun from this address")
    }

    /// Counts fresh tokens for a tunnel.
    pub(crate) fn must_be_few_refreshes(&self, tunnel: Id<Tunnel>) -> Result<(), Problem> {
        refuse(self.refreshes.take(tunnel), "times fresh tokens for this tunnel")
    }

    /// Counts a tunnel without a login.
    pub(crate) fn must_be_few_anonymous_tunnels(
        &self,
        source: Option<IpAddr>,
    ) -> Result<(), Problem> {
        let level = self.anonymous_tunnels.take(key(source));
        refuse(level, "tunnels without a login from this address")
    }

    /// Counts a poll.
    pub(crate) fn must_be_few_polls(&self, source: Option<IpAddr>) -> Result<(), Problem> {
        refuse(self.polls.take(key(source)), "questions about logins from this address")
    }
}

/// What stands for a source: of IPv6 the network, whose addresses are free.
fn key(source: Option<IpAddr>) -> IpAddr {
    match source {
        None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(IpAddr::V4(address)) => IpAddr::V4(address),
        Some(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(mapped) => IpAddr::V4(mapped),
            None => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        },
    }
}

fn refuse(level: Level, what: &str) -> Result<(), Problem> {
    if level.allowed { Ok(()) } else { Err(too_many(level, what)) }
}

fn too_many(level: Level, what: &str) -> Problem {
    let seconds = level.wait.max(Duration::from_secs(1)).as_secs_f64().ceil();
    let limit = level.limit;
    let mut problem = Problem::new(
        Code::RateLimited,
        format!("more than {limit} {what} in a minute"),
    )
    .hint(format!(
        "wait {seconds} s; following a stream costs one request, asking again and again many"
    ));
    // Minutes at most.
    problem.retry_after_seconds = Some(seconds as u64);
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let limits = Limits::new();
        for host in 0..FAILURES.burst {
            let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host as u16);
            assert!(limits.must_be_few_failures(Some(source.into()), "").is_ok());
            limits.failed(Some(source.into()), "");
        }
        let next = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 9, 9, 9, 9);
        let refused = limits.must_be_few_failures(Some(next.into()), "").unwrap_err();
        assert_eq!(refused.code, Code::RateLimited);
        assert!(refused.retry_after_seconds.is_some_and(|seconds| seconds <= 60));
        let other = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1);
        assert!(limits.must_be_few_failures(Some(other.into()), "").is_ok());
    }
}
