//! Faults for `fault_schedule`, stores and their damage for `store_recover`.

use crate::Seed;

/// Faults as that target numbers them.
const FAULTS: [(&str, u8); 12] = [
    ("reset", 0),
    ("hole", 1),
    ("partition", 2),
    ("slowness", 4),
    ("drop-all", 5),
    ("kill", 6),
    ("power-loss", 8),
    ("stall", 9),
    ("slow-disk", 10),
    ("full-disk", 11),
    ("broken-disk", 12),
    ("jump", 12),
];

/// Each fault alone, each with a kill after it, and storms.
pub(crate) fn faults() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = vec![("calm".into(), vec![1, 0]), ("calm-and-hostile".into(), vec![2, 0x80])];
    for (index, (name, fault)) in FAULTS.iter().enumerate() {
        let odd = u8::from(*name == "jump");
        let seed = index as u8;
        seeds.push(((*name).to_owned(), vec![seed, seed, 100, *fault, 60 + odd]));
        let then_kill = vec![seed, 0x29 ^ seed, 90, *fault, 120 + odd, 110, 6, 20];
        seeds.push((format!("{name}-then-kill"), then_kill));
    }
    let kills: Vec<u8> = (0..10).flat_map(|n| [40 + n * 12, 6, n]).collect();
    seeds.push(("kill-again-and-again".into(), [&[5, 1][..], &kills].concat()));
    let powers: Vec<u8> = (0..6).flat_map(|n| [40 + n * 30, 8, 10]).collect();
    seeds.push(("power-loss-again-and-again".into(), [&[6, 2][..], &powers].concat()));
    seeds
}

/// A script of so many steps: commits, folds, and a restart.
fn script(steps: usize) -> Vec<u8> {
    let commit = [2, 3, 0, 0, b'e', 9, 1, 1, b'f', 100, 6, 0, 1, 1, 1, b'v', 7, 7, 0, 1, 1, 2, b'w', 8];
    let step = |n: usize| match n % 6 {
        3 => vec![0, 2],
        5 => vec![1],
        _ => commit.to_vec(),
    };
    (0..steps).flat_map(step).take(255).collect()
}

/// Bytes that are no store, whole stores, and damaged ones.
pub(crate) fn stores() -> Vec<Seed> {
    let whole = |steps: usize, damage: &[u8]| {
        let script = script(steps);
        [&[1, script.len() as u8][..], &script, damage].concat()
    };
    let mut seeds: Vec<Seed> = vec![
        ("nothing".into(), vec![0]),
        ("text".into(), b"\0this is no store".to_vec()),
        ("zeros".into(), vec![0; 20_000]),
        ("magic-alone".into(), b"\0runcast store\r\n\x1a".to_vec()),
        ("magic-of-redb".into(), [&[0; 8193][..], b"redb\x1a\x0a\xa9\x0d\x0a"].concat()),
        ("whole-empty".into(), whole(0, &[])),
        ("whole".into(), whole(10, &[])),
        ("whole-long".into(), whole(30, &[])),
    ];
    for block in 0..12 {
        seeds.push((format!("damaged-block-{block}"), whole(9, &[block, 8 * block, 3, 4, 0x55])));
        seeds.push((format!("zeroed-block-{block}"), whole(14, &[block, 2 * block, 0, 63, 1])));
    }
    seeds.push(("cut-off".into(), whole(9, &[6, 0, 0, 0, 0])));
    seeds.push(("both-headers-damaged".into(), whole(9, &[0, 3, 0, 30, 7, 1, 3, 0, 30, 7])));
    seeds
}
