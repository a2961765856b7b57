//! A map that is searched several times for each event, and walked for what is rare alone.
//!
//! An ordered map of a thousand entries is three nodes deep, and each search goes through lines of memory
//! that nothing else has touched. So entries lie in a hash table, and beside it their keys in order: whoever
//! walks the map sees that order, never the table's, and the same inputs go on to give the same effects.

use ahash::RandomState;
use alloc::collections::BTreeSet;
use core::fmt;
use core::hash::Hash;
use core::ops::{Index, RangeBounds};
use hashbrown::HashTable;

/// What names are hashed with: who does not know it cannot make up names which fall together.
#[derive(Clone)]
pub(crate) struct Secret(RandomState);

impl Secret {
    /// For what comes from outside: the core's seed.
    pub(crate) fn of(seed: &[u8; 32]) -> Self {
        let mut keys =
            seed.chunks_exact(8).map(|part| part.iter().fold(0, |key, byte| key << 8 | u64::from(*byte)));
        let mut next = || keys.next().expect("32 bytes are four keys");
        Self(RandomState::with_seeds(next(), next(), next(), next()))
    }

    /// For what the daemon itself numbers: none.
    pub(crate) const fn none() -> Self {
        Self(RandomState::with_seeds(1, 2, 3, 4))
    }

    fn hash<K: Hash>(&self, key: &K) -> u64 {
        self.0.hash_one(key)
    }
}

/// Entries that are found by their hashes. Nobody can walk them: what order they have is not to be seen, or
/// the same inputs would give other effects with another secret.
pub(crate) struct Hashed<K, V> {
    table: HashTable<(K, V)>,
    secret: Secret,
}

impl<K, V> Hashed<K, V> {
    /// An empty one.
    pub(crate) const fn new(secret: Secret) -> Self {
        Self { table: HashTable::new(), secret }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

impl<K: Eq + Hash, V> Hashed<K, V> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let found = self.table.find(self.secret.hash(key), |(other, _)| other == key);
        found.map(|(_, value)| value)
    }

    /// The same, to change it.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let found = self.table.find_mut(self.secret.hash(key), |(other, _)| other == key);
        found.map(|(_, value)| value)
    }

    /// Puts a value in, and gives back the one that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(&key) {
            return Some(core::mem::replace(old, value));
        }
        let Self { table, secret } = self;
        table.insert_unique(secret.hash(&key), (key, value), |(other, _)| secret.hash(other));
        None
    }

    /// Takes a key out. Room that a burst has needed goes back, which a table would keep for ever.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let Self { table, secret } = self;
        let found = table.find_entry(secret.hash(key), |(other, _)| other == key).ok()?;
        let ((_, value), _) = found.remove();
        if table.len() < table.capacity() / 4 {
            table.shrink_to(2 * table.len(), |(other, _)| secret.hash(other));
        }
        Some(value)
    }
}

impl<K, V> fmt::Debug for Hashed<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashed").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Entries that are found by their hashes and walked in the order of their keys.
pub struct Lookup<K, V> {
    entries: Hashed<K, V>,
    /// Just the keys of those.
    order: BTreeSet<K>,
}

impl<K, V> Lookup<K, V> {
    /// An empty one.
    pub(crate) const fn new(secret: Secret) -> Self {
        Self { entries: Hashed::new(secret), order: BTreeSet::new() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// For keys that nobody outside chooses.
impl<K, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Self::new(Secret::none())
    }
}

impl<K: Ord + Hash + Clone, V> Lookup<K, V> {
    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Whether a key is there.
    pub fn contains_key(&self, key: &K) -> bool {
        self.entries.get(key).is_some()
    }

    /// Puts a value in, and gives back the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.order.insert(key.clone());
        self.entries.insert(key, value)
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.order.remove(key);
        self.entries.remove(key)
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.order.iter().map(|key| (key, &self[key]))
    }

    /// All keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.order.iter()
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// The keys of a range, in their order.
    pub(crate) fn keys_in(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = &K> {
        self.order.range(range)
    }
}

impl<K: Ord + Hash + Clone, V> Index<&K> for Lookup<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("a key that is there")
    }
}

impl<K: Ord + Hash + Clone + fmt::Debug, V: fmt::Debug> fmt::Debug for Lookup<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    #[test]
    fn the_room_of_a_burst_is_given_back() {
        let mut lookup: Lookup<u64, ()> = Lookup::default();
        for key in 0..10_000 {
            lookup.insert(key, ());
        }
        for key in 10..10_000 {
            lookup.remove(&key);
        }
        assert!(lookup.entries.table.capacity() < 100, "{}", lookup.entries.table.capacity());
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(
            seed: [u8; 32],
            steps in prop::collection::vec((any::<bool>(), 0..40u64, any::<u8>()), 0..200),
        ) {
            let (mut lookup, mut map) = (Lookup::new(Secret::of(&seed)), BTreeMap::new());
            for (is_put, key, value) in steps {
                let (found, expected) = if is_put {
                    (lookup.insert(key, value), map.insert(key, value))
                } else {
                    (lookup.remove(&key), map.remove(&key))
                };
                prop_assert_eq!(found, expected);
                prop_assert_eq!((lookup.len(), lookup.is_empty()), (map.len(), map.is_empty()));
                prop_assert_eq!((lookup.get(&key), lookup.contains_key(&key)), (map.get(&key), map.contains_key(&key)));
                prop_assert_eq!(lookup.get_mut(&key), map.get_mut(&key));
                prop_assert!(lookup.iter().eq(map.iter()));
                prop_assert!(lookup.keys().eq(map.keys()) && lookup.values().eq(map.values()));
                prop_assert!(lookup.keys_in(key..).eq(map.range(key..).map(|(key, _)| key)));
            }
        }
    }
}
