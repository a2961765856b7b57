//! O1, O3 and O4 at the beginning of a connection, for PROTOCOL §3 "A server never resumes partially and
//! silently": whether a `welcome` begins where it must, neither later nor earlier, by what its client asked
//! for and already has, and what is stored of it.

use crate::said::Resume;

/// Where a client asked to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// After its own position: incarnation and seq.
    Own(String, u64),
    /// After the device's position.
    Device,
    /// At the oldest event.
    Oldest,
    /// After the newest.
    Head,
    /// At the oldest run that has not ended.
    Live,
}

/// What a client knows when it is welcome.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Where it asked to begin.
    pub from: &'a From,
    /// What its application has: incarnation and seq.
    pub has: Option<(&'a str, u64)>,
    /// If the daemon must know the device: the furthest position that it may have for it.
    pub told: Option<u64>,
    /// What is stored of the device's position in this incarnation: it never goes back behind that.
    pub stored: Option<u64>,
    /// The stream has begun anew since: the disk was lost.
    pub is_new: bool,
}

/// What the `welcome` says.
#[derive(Clone, Copy, Debug)]
pub struct Welcome<'a> {
    /// The incarnation.
    pub epoch: &'a str,
    /// The oldest seq.
    pub floor: u64,
    /// The newest seq.
    pub head: u64,
    /// Where it begins.
    pub resume: &'a Resume<'a>,
}

/// Judges a `welcome`.
///
/// # Errors
/// The oracle that is broken, and how.
pub fn judge(client: Client<'_>, welcome: Welcome<'_>) -> Result<(), (&'static str, String)> {
    let Welcome { epoch, floor, head, resume } = welcome;
    if client.is_new {
        let has_old = client.has.is_some_and(|(had, _)| had == epoch);
        if has_old {
            return Err((
                "O4",
                format!("incarnation {epoch} was lost, and there it is with a head of {head}"),
            ));
        }
    } else if let Some((had, seq)) = client.has
        && had != epoch
        && seq > 0
    {
        return Err(("O4", format!("incarnation {had} with {seq} events is gone, there is {epoch}")));
    }
    if let Some((_, seq)) = client.has
        && head < seq
        && !client.is_new
    {
        return Err(("O4", format!("the head is {head}, it was {seq}")));
    }
    if floor == 0 || resume.from > head || resume.from + 1 < floor {
        return Err(("O1", format!("it begins at {} between floor {floor} and head {head}", resume.from)));
    }
    begins(client, welcome).map_err(|what| ("O1", what.to_owned()))
}

fn begins(client: Client<'_>, welcome: Welcome<'_>) -> Result<(), &'static str> {
    let Welcome { epoch, floor, resume, .. } = welcome;
    let begins = (resume.status.as_ref(), resume.reason.as_deref(), resume.from);
    let is =
        |expected| if begins == expected { Ok(()) } else { Err("it begins elsewhere than was asked for") };
    match client.from {
        From::Own(had, _) if had != epoch => is(("reset", Some("epoch"), floor - 1)),
        From::Own(_, seq) if *seq + 1 < floor => is(("reset", Some("trimmed"), floor - 1)),
        From::Own(_, seq) => is(("resumed", None, *seq)),
        From::Oldest => is(("fresh", None, floor - 1)),
        // The head may have grown while the device's first position was made durable.
        From::Head | From::Live => {
            if begins.0 == "fresh" {
                Ok(())
            } else {
                Err("`head` and `live` are always fresh")
            }
        }
        From::Device => match (begins, client.told) {
            (("reset", Some("trimmed"), _), _) if client.stored.is_some_and(|stored| stored + 1 >= floor) => {
                Err("nothing was trimmed that the device has not acknowledged")
            }
            (("reset", Some("trimmed"), from), _) if floor > 1 && from == floor - 1 => Ok(()),
            (("resumed", None, from), _) if client.stored.is_some_and(|stored| stored > from) => {
                Err("the device has stored acknowledgements past this")
            }
            (("resumed", None, from), Some(told)) if from > told => {
                Err("the device's position is further than it ever acknowledged")
            }
            (("resumed", None, _), _) | (("fresh", None, _), None) => Ok(()),
            (("fresh", None, _), Some(_)) => Err("a device that was welcome is not known any more"),
            _ => Err("the device is not resumed"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(status: &'static str, reason: Option<&'static str>, from: u64) -> Resume<'static> {
        Resume { status: status.into(), reason: reason.map(Into::into), from }
    }

    fn oracle(from: &From, told: Option<u64>, resume: &Resume<'_>) -> Option<&'static str> {
        let stored = told.map(|told| told - 3);
        let client = Client { from, has: Some(("e", 7)), told, stored, is_new: false };
        judge(client, Welcome { epoch: "e", floor: 3, head: 9, resume }).err().map(|(oracle, _)| oracle)
    }

    #[test]
    fn a_position_is_resumed_exactly_or_said_to_be_trimmed() {
        let own = From::Own("e".into(), 7);
        assert_eq!(oracle(&own, None, &welcome("resumed", None, 7)), None);
        assert_eq!(oracle(&own, None, &welcome("resumed", None, 8)), Some("O1"));
        let old = From::Own("e".into(), 1);
        assert_eq!(oracle(&old, None, &welcome("reset", Some("trimmed"), 2)), None);
        assert_eq!(oracle(&old, None, &welcome("fresh", None, 2)), Some("O1"));
    }

    #[test]
    fn a_device_is_never_taken_past_what_it_acknowledged_nor_forgotten() {
        assert_eq!(oracle(&From::Device, Some(7), &welcome("resumed", None, 5)), None);
        assert_eq!(oracle(&From::Device, Some(7), &welcome("resumed", None, 8)), Some("O1"));
        assert_eq!(oracle(&From::Device, Some(7), &welcome("resumed", None, 4)), None);
        assert_eq!(oracle(&From::Device, Some(7), &welcome("resumed", None, 3)), Some("O1"), "4 is stored");
        let trimmed = welcome("reset", Some("trimmed"), 2);
        assert_eq!(oracle(&From::Device, Some(7), &trimmed), Some("O1"), "3 is there");
        assert_eq!(oracle(&From::Device, Some(4), &trimmed), None);
        assert_eq!(oracle(&From::Device, Some(7), &welcome("fresh", None, 9)), Some("O1"));
        assert_eq!(oracle(&From::Device, None, &welcome("fresh", None, 9)), None);
    }
}
