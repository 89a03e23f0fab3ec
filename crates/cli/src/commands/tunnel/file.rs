//! The file of `helix tunnels run`: which programs are offered, and how.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use helix_model::Name;
use helix_model::api::CreateTunnel;
use helix_model::tunnel::Protocol;
use helix_tunnel::Choice;
use helix_tunnel::inspect::HeaderValue;
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::host_of;
use super::http::{self, HttpOptions, Inspect};
use super::offer::Offer;
use super::target::Target;
use crate::failure::Result;

/// A file longer than this is refused unread; real ones are a few hundred bytes.
pub(super) const FILE_BYTES_MAX: usize = 64 * 1024;

/// Each has a connection of its own to an edge, and a page of requests.
const TUNNELS_MAX: usize = 50;

/// One program that is to be offered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: Name,
    protocol: Protocol,
    target: Target,
    hostname: Option<String>,
    remote_port: Option<u16>,
    region: Option<String>,
    keep: Option<Duration>,
    proxy_protocol: bool,
    transport: Choice,
    inspect: Inspect,
    host_header: Option<HeaderValue>,
    allow: Vec<IpNet>,
    basic_auth_file: Option<PathBuf>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    line: usize,
    column: usize,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    schema_version: Spanned<String>,
    #[serde(default)]
    tunnels: Vec<Spanned<Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Spanned<String>,
    #[serde(default)]
    protocol: Protocol,
    target: Spanned<String>,
    hostname: Option<Spanned<String>>,
    remote_port: Option<Spanned<u16>>,
    region: Option<String>,
    keep: Option<Spanned<String>>,
    proxy_protocol: Option<Spanned<bool>>,
    transport: Option<Spanned<String>>,
    inspect: Option<Spanned<String>>,
    host_header: Option<Spanned<String>>,
    allow: Option<Spanned<Vec<Spanned<String>>>>,
    basic_auth_file: Option<Spanned<PathBuf>>,
}

/// Reads a file of so many tunnels, or says what is wrong with it first.
pub(super) fn read(text: &str) -> std::result::Result<Vec<Entry>, Fault> {
    let source: Source = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        fault(text, offset, error.message().trim().to_owned())
    })?;
    let version = &source.schema_version;
    if version.get_ref() != "v1" {
        let message = format!("schema_version is `{}`, not `v1`", version.get_ref());
        return Err(fault(text, version.span().start, message));
    }
    let mut names = BTreeSet::new();
    let mut entries = Vec::new();
    for table in source.tunnels {
        if entries.len() == TUNNELS_MAX {
            let message = format!("there are more than {TUNNELS_MAX} tunnels");
            return Err(fault(text, table.span().start, message));
        }
        let name_at = table.get_ref().name.span().start;
        let entry = entry(table.into_inner()).map_err(|(at, why)| fault(text, at, why))?;
        if !names.insert(entry.name.clone()) {
            let message = format!("there are two tunnels `{}`", entry.name);
            return Err(fault(text, name_at, message));
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn fault(text: &str, offset: usize, message: String) -> Fault {
    let before = text.get(..offset.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|it| *it != '\n').count() + 1;
    Fault { line, column, message }
}

/// Where a value is, and what is wrong with it.
type Wrong = (usize, String);

fn entry(table: Table) -> std::result::Result<Entry, Wrong> {
    only_where_it_means_something(&table)?;
    let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
    let keep = |text: &str| crate::duration::parse(text);
    let allow = table.allow.map(Spanned::into_inner).unwrap_or_default();
    let networks = allow.into_iter().map(|it| read_as("allow", it, http::network));
    Ok(Entry {
        name: read_as("name", table.name, name)?,
        protocol: table.protocol,
        target: read_as("target", table.target, str::parse)?,
        hostname: table.hostname.map(|it| read_as("hostname", it, host_of)).transpose()?,
        remote_port: table.remote_port.map(Spanned::into_inner),
        region: table.region,
        keep: table.keep.map(|it| read_as("keep", it, keep)).transpose()?,
        proxy_protocol: table.proxy_protocol.is_some_and(Spanned::into_inner),
        transport: table
            .transport
            .map(|it| read_as("transport", it, str::parse))
            .transpose()?
            .unwrap_or_default(),
        inspect: table
            .inspect
            .map(|it| read_as("inspect", it, str::parse))
            .transpose()?
            .unwrap_or_default(),
        host_header: table
            .host_header
            .map(|it| read_as("host_header", it, http::host_header))
            .transpose()?,
        allow: networks.collect::<std::result::Result<_, _>>()?,
        basic_auth_file: table.basic_auth_file.map(Spanned::into_inner),
    })
}

fn read_as<T>(
    key: &str,
    value: Spanned<String>,
    read: impl FnOnce(&str) -> std::result::Result<T, String>,
) -> std::result::Result<T, Wrong> {
    read(value.get_ref()).map_err(|why| (value.span().start, format!("{key}: {why}")))
}

/// What would be passed over in silence is refused.
fn only_where_it_means_something(table: &Table) -> std::result::Result<(), Wrong> {
    fn at<T>(value: Option<&Spanned<T>>) -> Option<usize> {
        value.map(|value| value.span().start)
    }
    let (is_http, is_tls) = (table.protocol == Protocol::Http, table.protocol == Protocol::Tls);
    let rules = [
        ("hostname", at(table.hostname.as_ref()), is_http || is_tls),
        ("remote_port", at(table.remote_port.as_ref()), !is_http && !is_tls),
        ("proxy_protocol", at(table.proxy_protocol.as_ref()), !is_http),
        ("inspect", at(table.inspect.as_ref()), is_http),
        ("host_header", at(table.host_header.as_ref()), is_http),
        ("allow", at(table.allow.as_ref()), is_http),
        ("basic_auth_file", at(table.basic_auth_file.as_ref()), is_http),
    ];
    let wrong =
        rules.into_iter().find_map(|(key, at, fits)| at.filter(|_| !fits).map(|at| (key, at)));
    match wrong {
        Some((key, at)) => {
            let protocol = table.protocol;
            Err((at, format!("{key}: a tunnel of protocol `{protocol}` has none")))
        }
        None => Ok(()),
    }
}

impl Entry {
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What is to be offered. Files it names are below the folder of its own.
    pub(super) fn offer(&self, folder: &Path) -> Result<Offer> {
        let ask = CreateTunnel {
            protocol: self.protocol,
            requested_name: Some(self.name.clone()),
            hostname: self.hostname.clone(),
            port: self.remote_port,
            region_hint: self.region.clone(),
            recreate_token_ttl_seconds: self.keep.map(|keep| keep.as_secs()),
            ..CreateTunnel::default()
        };
        let http = match self.protocol {
            Protocol::Http => Some(self.http(folder)?),
            _ => None,
        };
        let (proxy_protocol, transport) = (self.proxy_protocol, self.transport);
        Ok(Offer { target: self.target.clone(), ask, proxy_protocol, transport, http })
    }

    fn http(&self, folder: &Path) -> Result<HttpOptions> {
        let file = self.basic_auth_file.as_ref().map(|file| folder.join(file));
        let basic_auth = file.map(|file| http::basic_auth_of(&file)).transpose()?;
        Ok(HttpOptions {
            inspect: self.inspect,
            host_header: self.host_header.clone(),
            policies: http::policies(self.allow.clone(), basic_auth),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"schema_version = "v1"

[[tunnels]]
name = "demo"
target = "3000"
hostname = "shop.example.com"
keep = "30d"
inspect = "off"
host_header = "localhost:3000"
allow = ["192.0.2.0/24"]
basic_auth_file = "password"

[[tunnels]]
name = "ssh"
protocol = "tcp"
target = "192.168.1.20:22"
remote_port = 20001
proxy_protocol = true
region = "north"
transport = "quic"
"#;

    #[test]
    fn a_file_says_what_is_offered_and_how() {
        let entries = read(WHOLE).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].name.as_str(), "demo");
        assert_eq!(entries[0].target.to_string(), "127.0.0.1:3000");
        assert_eq!(entries[0].hostname.as_deref(), Some("shop.example.com"));
        assert_eq!(entries[0].inspect, Inspect::Off);
        assert_eq!(entries[1].protocol, Protocol::Tcp);
        assert_eq!(entries[1].remote_port, Some(20001));
        let offer = entries[1].offer(Path::new("/nowhere")).unwrap();
        assert!(offer.proxy_protocol && offer.http.is_none());
        assert_eq!(offer.transport, Choice::Only(helix_tunnel::Transport::Quic));
        assert_eq!(read("schema_version = \"v1\"\n").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |from: &str, to: &str| {
            assert!(WHOLE.contains(from), "{from}");
            read(&WHOLE.replacen(from, to, 1)).unwrap_err().to_string()
        };
        for (from, to, expected) in [
            ("\"v1\"", "\"v2\"", "line 1, column 18: schema_version is `v2`, not `v1`"),
            ("\"3000\"", "\"x\"", "line 5, column 10: target: `x` is neither a port"),
            ("\"demo\"", "\"De mo\"", "line 4, column 8: name: "),
            ("\"ssh\"", "\"demo\"", "line 14, column 8: there are two tunnels `demo`"),
            ("region", "regoin", "line 19, column 1: unknown field `regoin`"),
            ("\"30d\"", "\"soon\"", "line 7, column 8: keep: use a number"),
            ("/24\"", "/99\"", "line 10, column 10: allow: `192.0.2.0/99` is no network"),
            ("\"off\"", "\"0.0.0.0:1\"", "line 8, column 11: inspect: 0.0.0.0:1 is not of"),
            ("\"tcp\"", "\"http\"", "line 17, column 15: remote_port: a tunnel of protocol `http`"),
            ("20001", "70000", "line 17, column 15: "),
            ("= true", "=", "line 18, column "),
            ("\"quic\"", "\"udp\"", "line 20, column 13: transport: `udp` is no transport"),
        ] {
            let told = told(from, to);
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn there_are_not_more_tunnels_than_the_limit() {
        let many = |count: usize| {
            let tables = (0..count)
                .map(|number| format!("[[tunnels]]\nname = \"t{number}\"\ntarget = \"80\"\n"));
            format!("schema_version = \"v1\"\n{}", tables.collect::<String>())
        };
        assert_eq!(read(&many(TUNNELS_MAX)).unwrap().len(), TUNNELS_MAX);
        assert!(read(&many(TUNNELS_MAX + 1)).unwrap_err().message.contains("more than 50"));
    }
}
