//! Quotas: how much an org may have of each thing, and how much it has.
//!
//! [`Dimension`] is the closed list of what is limited. A limit is the org's
//! own, else the installation's, else the one built in; what the org has is its
//! [`Tally`](crate::tally::Tally). Whether a command may go on is decided in
//! `control`.
//!
//! Instances, their memory and their CPU are counted twice, because both count:
//! what the org asks for (checked when it asks) and what is there (checked when
//! an instance is placed; it is more while a deploy replaces instances or others
//! finish their work).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use crate::state::{Change, State};
use crate::tally::Need;
use crate::{Code, Id, Org, Problem, manifest};

/// From this share of a limit on, a change that uses more of it says so.
pub const WARNING_PERCENT: u64 = 80;

/// What the numbers of a dimension count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = QuotaUnit)]
pub enum Unit {
    Count,
    Bytes,
    /// Thousandths of a CPU.
    Millicpu,
}

macro_rules! dimensions {
    ($($variant:ident = $code:literal, $unit:ident, $limit:expr, $meaning:literal;)*) => {
        /// Something an org may have only so much of.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum Dimension {
            $(#[doc = $meaning] #[serde(rename = $code)] $variant,)*
        }

        impl Dimension {
            /// Every dimension, in the order people read them.
            pub const ALL: &'static [Dimension] = &[$(Dimension::$variant,)*];

            /// Its name, as scripts see it.
            pub const fn code(self) -> &'static str {
                match self { $(Dimension::$variant => $code,)* }
            }

            pub const fn unit(self) -> Unit {
                match self { $(Dimension::$variant => Unit::$unit,)* }
            }

            /// The limit of an installation where nobody set one.
            pub const fn built_in(self) -> u64 {
                match self { $(Dimension::$variant => $limit,)* }
            }

            /// What is counted, in a few words.
            pub const fn meaning(self) -> &'static str {
                match self { $(Dimension::$variant => $meaning,)* }
            }
        }
    };
}

// Generous on purpose: they are there to stop a loop that makes things, not to
// be met by someone who runs their own machines. An operator with tenants sets
// their own.
dimensions! {
    Projects = "projects", Count, 1_000, "projects";
    Apps = "apps", Count, 5_000, "apps";
    Envs = "envs", Count, 10_000, "envs";
    Endpoints = "endpoints", Count, 20_000, "endpoints of all envs";
    TcpPorts = "tcp_ports", Count, 10_000, "endpoints that listen on a port of their own";
    Hostnames = "hostnames", Count, 10_000, "host names that lead to an env";
    Ipv4Addresses = "ipv4_addresses", Count, 16, "IPv4 addresses of envs";
    Tunnels = "tunnels", Count, 1_000, "tunnels, attached or not";
    Instances = "instances", Count, 10_000, "instances of all envs";
    Memory = "memory", Bytes, 16 << 40, "memory of all instances, 16Mi of overhead each included";
    Cpu = "cpu", Millicpu, 10_000_000, "CPUs asked for by all instances";
    Volumes = "volumes", Count, 10_000, "volumes";
    VolumeBytes = "volume_bytes", Bytes, 64 << 40, "size of all volumes";
    Snapshots = "snapshots", Count, 10_000, "snapshots of all volumes";
    InstanceMemory = "instance_memory", Bytes, 256 << 30, "memory of one instance";
}

impl fmt::Display for Dimension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Dimension {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Dimension::ALL.iter().copied().find(|dimension| dimension.code() == text);
        found.ok_or_else(|| {
            let known: Vec<&str> = Dimension::ALL.iter().map(|it| it.code()).collect();
            format!("`{text}` is not limited by quotas; these are: {}", known.join(", "))
        })
    }
}

impl Dimension {
    /// A value as people write it: `20`, `64Gi`, `1.5` CPUs.
    pub fn parse_value(self, text: &str) -> Result<u64, String> {
        match self.unit() {
            Unit::Count => text.parse().map_err(|_| format!("`{text}` is not a whole number")),
            Unit::Bytes => manifest::parse_bytes(text)
                .ok_or_else(|| format!("`{text}` is not a size such as 512Mi or 64Gi")),
            Unit::Millicpu => {
                let cpus: Option<f64> = text.parse().ok();
                let cpus = cpus.filter(|cpus| (0.0..=CPUS_MAX).contains(cpus));
                cpus.map(millicpu).ok_or_else(|| format!("`{text}` is not a number of CPUs"))
            }
        }
    }

    /// The inverse of [`Self::parse_value`].
    pub fn format(self, value: u64) -> String {
        match self.unit() {
            Unit::Count => value.to_string(),
            Unit::Bytes => manifest::format_bytes(value),
            Unit::Millicpu if value.is_multiple_of(1000) => (value / 1000).to_string(),
            Unit::Millicpu => {
                format!("{}.{:03}", value / 1000, value % 1000).trim_end_matches('0').to_owned()
            }
        }
    }
}

/// More CPUs than this are a slip of the keyboard.
const CPUS_MAX: f64 = 1e9;

/// CPUs as thousandths.
pub fn millicpu(cpus: f64) -> u64 {
    let thousandths = (cpus.clamp(0.0, CPUS_MAX) * 1000.0).round();
    // In range by the line before: the text has at most twelve digits.
    format!("{thousandths:.0}").parse().unwrap_or(0)
}

/// The limits that somebody set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    installation: OrdMap<Dimension, u64>,
    orgs: OrdMap<Id<Org>, OrdMap<Dimension, u64>>,
}

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = QuotaSource)]
pub enum Source {
    BuiltIn,
    Installation,
    Org,
}

/// Command: set limits; an absent value takes one back to what it is without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Whose; the installation's when absent.
    pub org: Option<Id<Org>>,
    pub limits: BTreeMap<Dimension, Option<u64>>,
}

/// Event: limits were set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuotaSet {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org: Option<Id<Org>>,
    pub limits: BTreeMap<Dimension, Option<u64>>,
}

/// How a refusal for lack of quota came about, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Excess {
    pub org: String,
    pub dimension: Dimension,
    pub unit: Unit,
    pub limit: u64,
    pub current_usage: u64,
    pub requested_delta: u64,
}

/// One dimension of an org, as `helix quotas` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = QuotaLine)]
pub struct Line {
    pub dimension: Dimension,
    pub unit: Unit,
    pub meaning: String,
    /// Absent where only one thing at a time is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Of what runs: how much is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<u64>,
    pub limit: u64,
    /// Who set the limit.
    pub source: Source,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
}

impl Limits {
    /// The limit that holds for an org, and who set it.
    pub fn of(&self, org: Option<Id<Org>>, dimension: Dimension) -> (u64, Source) {
        let own = org.and_then(|org| self.orgs.get(&org)?.get(&dimension));
        match (own, self.installation.get(&dimension)) {
            (Some(limit), _) => (*limit, Source::Org),
            (None, Some(limit)) => (*limit, Source::Installation),
            (None, None) => (dimension.built_in(), Source::BuiltIn),
        }
    }

    pub(crate) fn forget(&mut self, org: Id<Org>) {
        self.orgs.remove(&org);
    }

    fn set(&mut self, set: &QuotaSet) {
        let mut limits = match set.org {
            Some(org) => self.orgs.get(&org).cloned().unwrap_or_default(),
            None => self.installation.clone(),
        };
        for (dimension, limit) in &set.limits {
            match limit {
                Some(limit) => limits.insert(*dimension, *limit),
                None => limits.remove(dimension),
            };
        }
        match set.org {
            None => self.installation = limits,
            Some(org) if limits.is_empty() => self.forget(org),
            Some(org) => {
                self.orgs.insert(org, limits);
            }
        }
    }
}

impl crate::event::Apply for QuotaSet {
    fn apply(&self, state: &mut State, change: Change) {
        state.limits.set(self);
        if let Some(org) = self.org {
            state.orgs.update(org, |org| change.touch(org));
        }
    }
}

/// Everything an org may have and has; the installation's limits without one.
pub fn lines(state: &State, org: Option<Id<Org>>) -> Vec<Line> {
    let tally = org.map(|org| state.tally(org));
    let line = |dimension: Dimension| {
        let (limit, source) = state.limits.of(org, dimension);
        let used = tally.and_then(|tally| tally.used(dimension));
        Line {
            dimension,
            unit: dimension.unit(),
            meaning: dimension.meaning().to_owned(),
            used,
            present: tally.and_then(|tally| tally.present.get(dimension)),
            limit,
            source,
            percent: used.map(|used| percent(used, limit)),
        }
    };
    Dimension::ALL.iter().copied().map(line).collect()
}

/// A share in whole percent, rounded down; of a limit of nothing all is used.
pub fn percent(used: u64, limit: u64) -> u64 {
    match u128::from(used).saturating_mul(100).checked_div(u128::from(limit)) {
        Some(share) => u64::try_from(share).unwrap_or(u64::MAX),
        None => 100,
    }
}

/// The dimension that leaves no room for one more instance, if one does.
pub fn blocking(state: &State, org: Id<Org>, one: Need) -> Option<Dimension> {
    let present = state.tally(org).present.plus(one);
    Dimension::ALL.iter().copied().find(|dimension| {
        present
            .get(*dimension)
            .is_some_and(|after| after > state.limits.of(Some(org), *dimension).0)
    })
}

/// A refusal: what is limited, what is used, what more was asked for.
pub fn exceeded(
    state: &State,
    org: Id<Org>,
    dimension: Dimension,
    used: u64,
    delta: u64,
) -> Problem {
    let limit = state.limits.of(Some(org), dimension).0;
    let name = state.orgs.get(org).map_or_else(|| org.to_string(), |org| org.name.to_string());
    let shown = |value| dimension.format(value);
    let detail = match dimension {
        Dimension::InstanceMemory => format!(
            "an instance of {} is more than the {} that org `{name}` allows",
            shown(delta),
            shown(limit)
        ),
        _ => format!(
            "the limit of org `{name}` for {dimension} is {}; it has {}, and this needs {} more",
            shown(limit),
            shown(used),
            shown(delta)
        ),
    };
    let mut problem = Problem::new(Code::QuotaExceeded, detail)
        .field(dimension.code(), format!("{} of {} used", shown(used), shown(limit)));
    let org = name;
    let unit = dimension.unit();
    problem.quota = Some(Box::new(Excess {
        org,
        dimension,
        unit,
        limit,
        current_usage: used,
        requested_delta: delta,
    }));
    problem
}

#[cfg(test)]
mod tests;
