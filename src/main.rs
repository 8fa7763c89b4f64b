//! The `evenkeel` program. All of it is in `evenkeel-agent`.

fn main() -> std::process::ExitCode {
    evenkeel_agent::main()
}
