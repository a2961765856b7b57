//! The one binary. Everything is in the library, where tests reach it.

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    runcast::cli::main()
}
