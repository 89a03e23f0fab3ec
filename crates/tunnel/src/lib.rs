//! Tunnels: what gives a program on a laptop a public name.
//!
//! Start at [`Agent::start`]: it attaches to an edge with what its [`Grants`] give and
//! hands each visitor to its [`Service`]; [`Forward`] is the one that passes them on to a
//! program that listens. [`protocol`] is what agents and edges say to each other, and
//! [`token`] what lets an agent in, for control planes and edges.
//!
//! Must not know apps, nodes, who may have a name, or how a control plane is asked.

mod agent;
mod attach;
mod choose;
mod dial;
mod grant;
#[cfg(feature = "inspect")]
pub mod inspect;
mod probe;
pub mod protocol;
mod race;
mod service;
mod session;
mod spare;
pub mod token;
mod transport;

pub use agent::{Agent, Config, Phase};
pub use dial::{DialError, Proxy};
pub use grant::{Candidate, Grant, GrantError, Grants};
pub use helix_link::{ByteStream, Receiver, Sender, Stream};
pub use probe::{Figures, Measured, ProbeError, measure};
pub use service::{Forward, Service, Visitor};
pub use transport::{Choice, Transport};
