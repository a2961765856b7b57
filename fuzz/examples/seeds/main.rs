//! Writes the seeds that were thought of (`cargo run -p runcast-fuzz --example seeds`). Seeds that a fuzzer
//! found, named `found-…`, are left alone.

mod bytes;
mod core;
mod wire;
mod worlds;

use std::path::Path;

/// A seed: what it is about, and its bytes.
type Seed = (String, Vec<u8>);

fn main() -> std::io::Result<()> {
    let all = [
        ("wire_decode", wire::messages()),
        ("core_inputs", core::operations()),
        ("http_head", bytes::heads()),
        ("conn_bytes", bytes::frames()),
        ("store_recover", worlds::stores()),
        ("fault_schedule", worlds::faults()),
    ];
    for (target, seeds) in all {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, data) in seeds {
            std::fs::write(folder.join(name), data)?;
        }
    }
    Ok(())
}
