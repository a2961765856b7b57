//! O5, for PROTOCOL §2.3 "At least once on the wire": once everything is healed and at rest, every device has
//! everything up to the head of its stream, and has acknowledged it.

/// What a device lacks, if anything. `acked` is none for one that does not acknowledge.
pub fn device(who: &str, position: u64, acked: Option<u64>, head: u64) -> Option<String> {
    let acked = acked.unwrap_or(head);
    (position != head || acked != head)
        .then(|| format!("{who} is at {position} (acknowledged {acked}) of {head}"))
}

#[cfg(test)]
mod tests {
    use super::device;

    #[test]
    fn a_device_is_complete_at_the_head_and_acknowledged() {
        assert_eq!(device("d", 7, Some(7), 7), None);
        assert_eq!(device("viewer", 7, None, 7), None);
        assert!(device("d", 6, Some(6), 7).is_some());
        assert!(device("d", 7, Some(6), 7).is_some());
    }
}
