//! Rule: rooms know only the rooms below them.
//!
//! The list is explicit, so that a new arrow between rooms is a line in a
//! review and not an accident.

use crate::workspace::Package;

use super::Finding;

/// A package, what it may depend on inside the workspace, and why.
struct Room {
    name: &'static str,
    may_know: &'static [&'static str],
    because: &'static str,
}

const ROOMS: &[Room] = &[
    Room {
        name: "helix",
        may_know: &[
            "helix-cli",
            "helix-client",
            "helix-control",
            "helix-edge",
            "helix-files",
            "helix-image",
            "helix-link",
            "helix-log",
            "helix-model",
            "helix-node",
            "helix-runtime",
            "helix-server",
        ],
        because: "it wires the rooms together",
    },
    Room {
        name: "helix-cli",
        may_know: &["helix-client", "helix-model", "helix-image", "helix-tunnel"],
        because: "it speaks to a server through the client, builds images from folders and runs \
                  agents of tunnels, \
                  but not how the server stores or decides",
    },
    Room {
        name: "helix-server",
        may_know: &[
            "helix-certificate",
            "helix-control",
            "helix-dns",
            "helix-model",
            "helix-log",
            "helix-image",
            "helix-link",
            "helix-tunnel",
        ],
        because: "it is the shell around the core, resolves images, looks up proofs of \
                  domains, takes links and signs what agents of tunnels are let in by, \
                  but does not isolate instances or carry user traffic",
    },
    Room {
        name: "helix-control",
        may_know: &["helix-model"],
        because: "it decides over the nouns and does nothing else",
    },
    Room { name: "helix-model", may_know: &[], because: "the nouns know nobody" },
    Room { name: "helix-log", may_know: &[], because: "it stores events without reading them" },
    Room {
        name: "helix-client",
        may_know: &["helix-model", "helix-tunnel"],
        because: "the API speaks of the nouns, and agents of tunnels get their grants by it",
    },
    Room {
        name: "helix-node",
        may_know: &["helix-model", "helix-client", "helix-runtime", "helix-image"],
        because: "it turns its plan into images and instances and reports back",
    },
    Room { name: "helix-runtime", may_know: &[], because: "one instance needs no plan" },
    Room { name: "helix-image", may_know: &[], because: "OCI images exist without the platform" },
    Room {
        name: "helix-certificate",
        may_know: &[],
        because: "certificates exist without the platform",
    },
    Room { name: "helix-dns", may_know: &[], because: "DNS exists without the platform" },
    Room { name: "helix-link", may_know: &[], because: "it must not know what flows through" },
    Room {
        name: "helix-edge",
        may_know: &["helix-certificate", "helix-link", "helix-model", "helix-tunnel"],
        because: "it carries out an edge plan, with the certificates it is given and for agents \
                  of tunnels, without knowing how it was decided",
    },
    Room {
        name: "helix-tunnel",
        may_know: &["helix-link"],
        because: "a program that embeds it needs no platform around it",
    },
    Room {
        name: "helix-tunnel-c",
        may_know: &["helix-client", "helix-model", "helix-tunnel"],
        because: "it is an agent of a tunnel, for programs in C, and nothing else",
    },
    Room {
        name: "embed-rust",
        may_know: &["helix-client", "helix-model", "helix-tunnel"],
        because: "it shows all that a program needs to be its own agent",
    },
    Room { name: "helix-files", may_know: &[], because: "it runs alone inside an instance" },
    Room {
        name: "helix-sim",
        may_know: &["helix-control", "helix-model"],
        because: "it runs the real core among fakes and none of the production shells",
    },
    Room { name: "xtask", may_know: &[], because: "chores drive the built binary only" },
];

/// Dependencies of tests, in addition to what the room itself may know.
const TESTS_MAY_KNOW: &[(&str, &[&str])] =
    // Programs that embed a tunnel, before the whole product.
    &[("helix", &["helix-tunnel", "helix-tunnel-c"])];

/// Finds arrows between rooms that are not in the list, rooms that are not in
/// the list, and entries of rooms that are gone.
pub fn check(packages: &[Package]) -> Vec<Finding> {
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let gone = ROOMS
        .iter()
        .filter(|room| !names.contains(&room.name))
        .map(|room| Finding::of(room.name, "the room is gone: remove it from the list of edges"));
    gone.chain(packages.iter().flat_map(|package| check_package(package, &names))).collect()
}

fn check_package(package: &Package, names: &[&str]) -> Vec<Finding> {
    let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
        let message = "not in the list of edges: say what it may know, and why";
        return vec![Finding::of(&package.name, message)];
    };
    let inside =
        package.dependencies.iter().filter(|dependency| names.contains(&dependency.name.as_str()));
    let forbidden = inside.filter(|dependency| {
        let known = dependency.name.as_str();
        let for_tests = dependency.kind.as_deref() == Some("dev");
        let allowed = room.may_know.contains(&known);
        !allowed && (!for_tests || !tests_may_know(room.name, known))
    });
    forbidden
        .map(|dependency| {
            let message = format!("must not know `{}`: {}", dependency.name, room.because);
            Finding::of(&package.name, message)
        })
        .collect()
}

fn tests_may_know(room: &str, known: &str) -> bool {
    TESTS_MAY_KNOW.iter().any(|(name, extra)| *name == room && extra.contains(&known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, kind: Option<&str>, known: &[&str]) -> Package {
        let dependencies = known
            .iter()
            .map(|name| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
            .collect();
        Package { name: name.to_owned(), dependencies, targets: Vec::new() }
    }

    /// The real rooms, none knowing another, with one of them replaced.
    fn with(changed: Package) -> Vec<String> {
        let mut packages: Vec<Package> = ROOMS
            .iter()
            .filter(|room| room.name != changed.name)
            .map(|room| package(room.name, None, &[]))
            .collect();
        packages.push(changed);
        check(&packages).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_arrow_that_is_not_listed_is_found() {
        let findings = with(package("helix-model", None, &["helix-log"]));
        assert_eq!(findings, ["helix-model: must not know `helix-log`: the nouns know nobody"]);
        assert_eq!(with(package("helix-edge", Some("dev"), &["helix-node"])).len(), 1);
        assert_eq!(with(package("helix-files", Some("build"), &["helix-model"])).len(), 1);
    }

    #[test]
    fn listed_arrows_and_outside_packages_are_fine() {
        assert_eq!(with(package("helix-control", None, &["helix-model", "serde"])), [""; 0]);
    }

    #[test]
    fn a_room_nobody_listed_is_found() {
        assert_eq!(with(package("helix-novelty", None, &[])).len(), 1);
    }

    #[test]
    fn a_listed_room_that_is_gone_is_found() {
        let packages: Vec<Package> =
            ROOMS[1..].iter().map(|room| package(room.name, None, &[])).collect();
        assert_eq!(check(&packages).len(), 1);
    }
}
