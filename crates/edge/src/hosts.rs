//! What hosts lead to, wildcards among them.

use std::collections::HashMap;

use helix_model::host;

/// A value for each of some hosts.
#[derive(Debug)]
pub(crate) struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    /// Those of wildcards, by what they are right below.
    wild: HashMap<Box<str>, T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Hosts<T> {
        Hosts { exact: HashMap::new(), wild: HashMap::new() }
    }
}

impl<T> Hosts<T> {
    /// Adds a host in lower case, or a wildcard; what is there already stays.
    pub(crate) fn add(&mut self, name: &str, value: T) {
        let hosts = if host::is_wildcard(name) { &mut self.wild } else { &mut self.exact };
        hosts.entry(host::exact_part(name).into()).or_insert(value);
    }

    /// What an exact host in lower case leads to: its own before that of a wildcard.
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.exact.get(name).or_else(|| self.wild.get(name.split_once('.')?.1))
    }

    /// What is there, if it is one thing.
    pub(crate) fn only(&self) -> Option<&T> {
        let mut all = self.exact.values().chain(self.wild.values());
        all.next().filter(|_| all.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_found_before_the_wildcard_that_stands_for_it() {
        let mut hosts = Hosts::default();
        hosts.add("*.a.example", 1);
        assert_eq!(hosts.only(), Some(&1));
        hosts.add("b.a.example", 2);
        hosts.add("b.a.example", 3);
        assert_eq!(hosts.get("b.a.example"), Some(&2));
        assert_eq!(hosts.get("c.a.example"), Some(&1));
        for other in ["a.example", "d.c.a.example", "example", "*.a.example.x"] {
            assert_eq!(hosts.get(other), None, "{other}");
        }
        assert_eq!(hosts.only(), None);
    }
}
