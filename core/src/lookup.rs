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
use hashbrown::HashMap;

/// A hash table, whose order nobody may see.
pub(crate) type Hashed<K, V> = HashMap<K, V, RandomState>;

/// How a table hashes names that come from outside: with a secret, so that nobody can make up names which
/// fall together.
pub(crate) fn secret(seed: &[u8; 32]) -> RandomState {
    let mut keys =
        seed.chunks_exact(8).map(|part| part.iter().fold(0, |key, byte| key << 8 | u64::from(*byte)));
    let mut next = || keys.next().expect("32 bytes are four keys");
    RandomState::with_seeds(next(), next(), next(), next())
}

/// How a table hashes what the daemon itself numbers.
pub(crate) const fn open() -> RandomState {
    RandomState::with_seeds(1, 2, 3, 4)
}

/// Takes a key out of a table. Room that a burst has needed goes back, which a table would keep for ever.
pub(crate) fn take<K: Eq + Hash, V>(table: &mut Hashed<K, V>, key: &K) -> Option<V> {
    let value = table.remove(key);
    if table.len() < table.capacity() / 4 {
        table.shrink_to(2 * table.len());
    }
    value
}

/// Entries that are found by their hashes and walked in the order of their keys.
pub struct Lookup<K, V> {
    entries: Hashed<K, V>,
    /// Just the keys of those.
    order: BTreeSet<K>,
}

impl<K, V> Lookup<K, V> {
    /// An empty one.
    pub(crate) const fn new(hash: RandomState) -> Self {
        Self { entries: HashMap::with_hasher(hash), order: BTreeSet::new() }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// For keys that nobody outside chooses.
impl<K, V> Default for Lookup<K, V> {
    fn default() -> Self {
        Self::new(open())
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
        self.entries.contains_key(key)
    }

    /// Puts a value in, and gives back the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.order.insert(key.clone());
        self.entries.insert(key, value)
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.order.remove(key);
        take(&mut self.entries, key)
    }

    /// All, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> + Clone {
        self.order.iter().map(|key| (key, &self.entries[key]))
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
        &self.entries[key]
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
        assert!(lookup.entries.capacity() < 100, "{}", lookup.entries.capacity());
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map(
            seed: [u8; 32],
            steps in prop::collection::vec((any::<bool>(), 0..40u64, any::<u8>()), 0..200),
        ) {
            let (mut lookup, mut map) = (Lookup::new(secret(&seed)), BTreeMap::new());
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
