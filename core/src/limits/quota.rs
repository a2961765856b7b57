//! Rates of many: of addresses that fail to authenticate, and of those who make requests, each of which comes
//! on a connection of its own.
//!
//! Only who has lately used some of a quota is known. There are so many at most; beyond them the one who is
//! nearest to having all of it again is forgotten, and has.

use crate::time::{Mono, Span};
use alloc::collections::{BTreeMap, BTreeSet};

/// How many are known at most.
pub(crate) const KNOWN: usize = 65_536;

/// So many at once, and one more each time this has gone by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub(crate) burst: u64,
    pub(crate) every: Span,
}

/// What is left to whom, as the times at which what they used would have been used evenly (GCRA).
#[derive(Debug)]
pub(crate) struct Quotas<K> {
    even: BTreeMap<K, Mono>,
    by_time: BTreeSet<(Mono, K)>,
}

impl<K> Default for Quotas<K> {
    fn default() -> Self {
        Self { even: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Quotas<K> {
    /// Whether some is left; else the time until it is.
    pub(crate) fn check(&self, key: &K, now: Mono, quota: Quota) -> Result<(), Span> {
        let early = self.even.get(key).map_or(Span::ZERO, |even| even.since(now));
        let allowed = quota.every.times(quota.burst - 1);
        if early <= allowed { Ok(()) } else { Err(early - allowed) }
    }

    /// One is used, also if none is left: there is never less than none.
    pub(crate) fn count(&mut self, key: &K, now: Mono, quota: Quota) {
        while self.by_time.first().is_some_and(|(even, _)| *even <= now) {
            self.forget_first();
        }
        let before = self.even.remove(key);
        if let Some(before) = before {
            assert!(self.by_time.remove(&(before, key.clone())), "both tables know the same");
        }
        let even = before.map_or(now, |before| before.max(now)) + quota.every;
        let even = even.min(now + quota.every.times(quota.burst));
        self.even.insert(key.clone(), even);
        self.by_time.insert((even, key.clone()));
        if self.by_time.len() > KNOWN {
            self.forget_first();
        }
    }

    /// One is used, if some is left; else the time until it is.
    pub(crate) fn take(&mut self, key: &K, now: Mono, quota: Quota) -> Result<(), Span> {
        self.check(key, now, quota)?;
        self.count(key, now, quota);
        Ok(())
    }

    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.by_time.len()
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.by_time.pop_first() {
            self.even.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { burst: 3, every: Span::secs(20) };

    fn at(s: u64) -> Mono {
        Mono(s * 1_000_000)
    }

    #[test]
    fn a_quota_is_used_up_and_comes_back_one_by_one() {
        let mut quotas = Quotas::default();
        for _ in 0..3 {
            assert_eq!(quotas.take(&"a", at(0), QUOTA), Ok(()));
        }
        assert_eq!(quotas.take(&"a", at(0), QUOTA), Err(Span::secs(20)));
        assert_eq!(quotas.take(&"a", at(5), QUOTA), Err(Span::secs(15)), "being refused uses nothing");
        assert_eq!(quotas.take(&"b", at(5), QUOTA), Ok(()));
        assert_eq!(quotas.take(&"a", at(20), QUOTA), Ok(()));
        assert_eq!(quotas.take(&"a", at(20), QUOTA), Err(Span::secs(20)));
        assert_eq!(quotas.take(&"a", at(100), QUOTA), Ok(()));
        for _ in 0..100 {
            quotas.count(&"a", at(100), QUOTA);
        }
        assert_eq!(quotas.take(&"a", at(100), QUOTA), Err(Span::secs(20)), "it is not used up for ever");
        assert_eq!(quotas.len(), 1, "who has all of it again is not known");
    }

    #[test]
    fn no_more_are_known_than_there_is_room_for() {
        let mut quotas = Quotas::default();
        for key in 0..KNOWN + 10 {
            quotas.count(&key, Mono(key as u64), QUOTA);
        }
        assert_eq!((quotas.len(), quotas.even.len()), (KNOWN, KNOWN));
        quotas.count(&0, at(1_000), QUOTA);
        assert_eq!((quotas.len(), quotas.even.len()), (1, 1));
    }
}
