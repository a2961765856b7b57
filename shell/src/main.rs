//! The one binary. Everything is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    runcast::cli::main()
}
