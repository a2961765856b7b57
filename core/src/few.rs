//! A map of few entries, in the order of their keys. Most users have one device and one connection: a tree
//! keeps room for eleven of each, this one has room for as many as there are.

use alloc::vec::Vec;

/// So many entries have room exactly; beyond them it grows by half as others do.
const EXACTLY: usize = 4;

/// Entries in the order of their keys.
#[derive(Debug)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Few<K, V> {
    fn find(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.find(key).is_ok()
    }

    /// The value of a key, which is put there if it has none.
    pub(crate) fn or_insert(&mut self, key: K, value: V) -> &mut V {
        let at = self.find(&key).unwrap_or_else(|at| {
            if self.0.len() < EXACTLY {
                self.0.reserve_exact(1);
            }
            self.0.insert(at, (key, value));
            at
        });
        &mut self.0[at].1
    }

    /// Whether the key was there.
    pub(crate) fn remove(&mut self, key: &K) -> bool {
        let Ok(at) = self.find(key) else { return false };
        self.0.remove(at);
        if self.0.len() <= EXACTLY {
            self.0.shrink_to_fit();
        }
        true
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((any::<bool>(), 0..12u8, any::<u8>()), 0..60)) {
            let (mut few, mut map) = (Few::default(), BTreeMap::new());
            for (is_put, key, value) in steps {
                if is_put {
                    prop_assert_eq!(few.or_insert(key, value), map.entry(key).or_insert(value));
                } else {
                    prop_assert_eq!(few.remove(&key), map.remove(&key).is_some());
                }
                prop_assert!(few.iter().eq(map.iter()) && few.keys().eq(map.keys()));
                prop_assert_eq!((few.len(), few.is_empty()), (map.len(), map.is_empty()));
                prop_assert_eq!((few.get(&key), few.contains_key(&key)), (map.get(&key), map.contains_key(&key)));
                prop_assert_eq!(few.get_mut(&key), map.get_mut(&key));
            }
        }
    }
}
