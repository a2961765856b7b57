//! O3 on a disk that rots, for PROTOCOL §3 "A server never resumes partially and silently": of a store with
//! garbage in its middle or at its tail each stream is read as it was, or said to be damaged; or the store
//! says so when it is opened. Nothing else is ever taken for content, and nothing is left out in silence.

use super::truth::Truth;
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::said::Said;
use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use runcast::store::{OpenError, Repair, Store};
use runcast_core::record::{Found, Query, Record, StreamKey};

/// Events that are read at once.
const PAGE: usize = 256;
/// What rots in one piece at most, in bytes.
const PIECE: u64 = 16 * 1024;

/// Lets copies of a disk rot, and reads what is on them. `torn` is what may be missing because it looks like
/// a commit that was not finished.
///
/// # Errors
/// Something is found that is not true.
pub fn judge(disk: &SimDisk, truth: &Truth, torn: &[&Record], dice: &mut Dice) -> Result<(), String> {
    for _ in 0..4 {
        let copy = disk.kill();
        rot(&copy, dice);
        match Store::open(copy, Repair::default()) {
            Ok((store, _)) => {
                let mut load = |query: &Query| store.load(query).map_err(|error| error.to_string());
                truth.streams().try_for_each(|(key, log)| {
                    let is_torn =
                        |record: &&&Record| matches!(record, Record::Event { stream, .. } if stream == key);
                    let may_miss = torn.iter().filter(is_torn).count() as u64;
                    stream(key, log.floor, (&log.contents, may_miss), &mut load)
                })?;
            }
            Err(OpenError::Damaged(_)) => {}
            Err(error) => return Err(format!("a rotten disk is called another thing: {error}")),
        }
    }
    Ok(())
}

fn rot(disk: &SimDisk, dice: &mut Dice) {
    let mut rng = ChaCha8Rng::from_seed(dice.seed());
    let length = dice.log_uniform(1, PIECE) as usize;
    let blocks = disk.used_blocks();
    if dice.chance(1, 3) || blocks.is_empty() {
        return disk.corrupt_tail(length, &mut rng);
    }
    // Its first blocks say where everything is; they have tests of their own.
    let block = blocks[dice.below(blocks.len() as u64) as usize];
    disk.corrupt(block * 4096 + dice.below(8) * 512, length.min(512), &mut rng);
}

/// Reads one log from its floor on, up to where it is said to be damaged; so many of the newest may be
/// missing.
fn stream(
    key: &StreamKey,
    floor: u64,
    (contents, may_miss): (&[u64], u64),
    load: &mut dyn FnMut(&Query) -> Result<Found, String>,
) -> Result<(), String> {
    let mut at = floor - 1;
    loop {
        let query = Query::Events { stream: key.clone(), after: at, events_max: PAGE, bytes_max: usize::MAX };
        let events = match load(&query)? {
            Found::Events(events) if events.is_empty() => break,
            Found::Events(events) => events,
            Found::Damaged => return Ok(()),
            found @ Found::Rows(_) => return Err(format!("events are {found:?}")),
        };
        for (seq, bytes) in events {
            at += 1;
            let text = String::from_utf8_lossy(&bytes);
            let content = Said::read(&text).map(|said| said.content()).ok();
            if seq != at || content.is_none() || content != contents.get(seq as usize - 1).copied() {
                return Err(format!("on a rotten disk {seq} of {key:?} is {text}, after {}", at - 1));
            }
        }
    }
    if (at..=at + may_miss).contains(&(contents.len() as u64)) {
        return Ok(());
    }
    Err(format!("on a rotten disk {key:?} ends at {at} of {}, and nothing is said of damage", contents.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_ends_early_or_says_another_thing_is_seen() {
        let event = |seq| bytes::Bytes::from(format!("{{\"type\":\"event\",\"seq\":{seq}}}"));
        let content = |seq| Said::read(std::str::from_utf8(&event(seq)).unwrap()).unwrap().content();
        let contents = [content(1), content(2)];
        let key = StreamKey("s".into());
        let judge = |held: Vec<u64>, damaged: bool, may_miss: u64| {
            let mut load = |query: &Query| {
                let Query::Events { after, .. } = query else { unreachable!("only events are read") };
                let rest: Vec<_> = held.iter().skip(*after as usize).collect();
                let rest = rest.into_iter().enumerate();
                let page: Vec<_> = rest.map(|(n, seq)| (after + 1 + n as u64, event(*seq))).collect();
                Ok(if page.is_empty() && damaged { Found::Damaged } else { Found::Events(page) })
            };
            stream(&key, 1, (&contents, may_miss), &mut load)
        };
        assert!(judge(vec![1, 2], false, 0).is_ok());
        assert!(judge(vec![1], true, 0).is_ok());
        assert!(judge(vec![1], false, 0).is_err());
        assert!(judge(vec![1], false, 1).is_ok(), "the last commit looks torn");
        assert!(judge(vec![], false, 1).is_err(), "but the one before was whole");
        assert!(judge(vec![1, 3], false, 0).is_err());
    }
}
