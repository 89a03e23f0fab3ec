//! The generic resource: what every kind has in common, and the table that
//! holds one kind.
//!
//! Desired (`spec`) and current (`status`) are kept apart on purpose: a command
//! writes the one, an observation the other.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::condition::Standing;
use crate::{AnyId, Id, Name, Noun, Timestamp};

/// One resource of noun `N`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Resource<N: Noun> {
    pub id: Id<N>,
    pub name: Name,
    /// Whom the name is unique in; `None` for what belongs to the installation.
    pub parent: Option<AnyId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The log position of the last change; what `expected_version` compares.
    pub version: u64,
    /// What is desired.
    pub spec: N,
    /// What is current.
    pub status: N::Status,
    /// Which conditions hold, and since when.
    pub standing: Standing,
}

/// Every resource of one kind, by id and by name in its parent. Written down as
/// the list of its resources; the indexes follow from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", into = "Vec<Arc<Resource<N>>>", from = "Vec<Arc<Resource<N>>>")]
pub struct Table<N: Noun> {
    by_id: OrdMap<Id<N>, Arc<Resource<N>>>,
    /// Without the kind in the ids, so that one map serves them all: each map of a type of
    /// its own is code of its own, and there were as many as there are kinds.
    by_parent: OrdMap<Option<AnyId>, OrdMap<Name, Ulid>>,
}

impl<N: Noun> Default for Table<N> {
    fn default() -> Self {
        Table { by_id: OrdMap::new(), by_parent: OrdMap::new() }
    }
}

impl<N: Noun> Table<N> {
    /// The resource with this id.
    pub fn get(&self, id: Id<N>) -> Option<&Resource<N>> {
        self.by_id.get(&id).map(Arc::as_ref)
    }

    /// The resource with this name in this parent.
    pub fn named(&self, parent: Option<AnyId>, name: &Name) -> Option<&Resource<N>> {
        let id = self.by_parent.get(&parent)?.get(name)?;
        self.get(Id::of(*id))
    }

    /// All, oldest id first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Resource<N>> {
        self.by_id.values().map(Arc::as_ref)
    }

    /// All whose id is beyond this one, oldest id first.
    pub fn after(&self, id: Option<Id<N>>) -> impl Iterator<Item = &Resource<N>> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range((from, Bound::Unbounded)).map(|(_, resource)| resource.as_ref())
    }

    /// Those under one parent, by name.
    pub fn children(&self, parent: AnyId) -> impl Iterator<Item = &Resource<N>> {
        let names = self.by_parent.get(&Some(parent));
        names.into_iter().flat_map(OrdMap::values).filter_map(|id| self.get(Id::of(*id)))
    }

    /// What is not as it was in an earlier table: as it is now, or as it was
    /// when it is gone. Quick between two states of one log, which share most of
    /// their structure.
    pub fn changed_since<'t>(&'t self, before: &'t Self) -> impl Iterator<Item = &'t Resource<N>> {
        before.by_id.diff(&self.by_id).map(|change| match change {
            DiffItem::Add(_, resource) | DiffItem::Remove(_, resource) => resource.as_ref(),
            DiffItem::Update { new: (_, resource), .. } => resource.as_ref(),
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn insert(&mut self, resource: Resource<N>) {
        self.keep(Arc::new(resource));
    }

    fn keep(&mut self, resource: Arc<Resource<N>>) {
        let names = self.by_parent.entry(resource.parent).or_default();
        names.insert(resource.name.clone(), resource.id.ulid());
        self.by_id.insert(resource.id, resource);
    }

    pub(crate) fn update(&mut self, id: Id<N>, change: impl FnOnce(&mut Resource<N>)) {
        if let Some(resource) = self.by_id.get_mut(&id) {
            change(Arc::make_mut(resource));
        }
    }

    /// Removes by an id of any kind; one of another kind is nothing here.
    pub(crate) fn remove_any(&mut self, id: AnyId) {
        if let Some(id) = id.typed() {
            self.remove(id);
        }
    }

    /// Removes all that is under a parent.
    pub(crate) fn remove_children(&mut self, parent: AnyId) {
        let children: Vec<Id<N>> = self.children(parent).map(|child| child.id).collect();
        for child in children {
            self.remove(child);
        }
    }

    pub(crate) fn remove(&mut self, id: Id<N>) {
        let Some(resource) = self.by_id.remove(&id) else {
            return;
        };
        let Some(names) = self.by_parent.get_mut(&resource.parent) else { return };
        names.remove(&resource.name);
        // An empty index would make this table differ from one that was read
        // back, and would stay for ever.
        if names.is_empty() {
            self.by_parent.remove(&resource.parent);
        }
    }
}

impl<N: Noun> From<Table<N>> for Vec<Arc<Resource<N>>> {
    fn from(table: Table<N>) -> Self {
        table.by_id.values().cloned().collect()
    }
}

impl<N: Noun> From<Vec<Arc<Resource<N>>>> for Table<N> {
    fn from(resources: Vec<Arc<Resource<N>>>) -> Self {
        let mut table = Table::default();
        for resource in resources {
            table.keep(resource);
        }
        table
    }
}
