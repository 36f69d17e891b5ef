//! A Python environment of the project's own, with exactly the packages of a requirements file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{run, target};

const INSTALL_DEADLINE: Duration = Duration::from_secs(600);
const ASK_DEADLINE: Duration = Duration::from_secs(60);

/// The minor versions of Python 3 for which all pinned packages have wheels.
const MINORS: std::ops::RangeInclusive<u32> = 10..=13;

/// Where an interpreter is looked for, in this order; `RINGMQ_PYTHON` comes before them.
const CANDIDATES: [&str; 5] = [
    "python3",
    "python3.13",
    "python3.12",
    "python3.11",
    "python3.10",
];

/// Makes the environment `name` in the build directory and returns its interpreter.
///
/// It is made once for each content of the requirements file. Nothing that is installed outside of
/// it is used.
///
/// # Errors
/// A text that says what is missing and how to get it.
pub(crate) fn python_environment(name: &str, requirements: &Path) -> Result<PathBuf, String> {
    let folder = target().join(name);
    let python = folder.join("bin").join("python");
    let stamp = folder.join("requirements.stamp");
    let wanted = fs::read_to_string(requirements)
        .map_err(|error| format!("{}: {error}", requirements.display()))?;
    let made = fs::read_to_string(&stamp).is_ok_and(|made| made == wanted);
    if made && version(&python.to_string_lossy()).is_ok() {
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let interpreter = interpreter()?;
    execute(Command::new(interpreter).args(["-m", "venv"]).arg(&folder))?;
    execute(
        clean(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--no-input"]))
            .args([
                "--disable-pip-version-check",
                "--only-binary=:all:",
                "--requirement",
            ])
            .arg(requirements),
    )
    .map_err(|error| {
        format!(
            "{error}\nThe packages of {} cannot be installed.",
            requirements.display()
        )
    })?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

/// Keeps a Python process away from everything outside of its environment.
pub(crate) fn clean(command: &mut Command) -> &mut Command {
    command
        .env("PYTHONNOUSERSITE", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .env_remove("PYTHONPATH")
        .env_remove("PYTHONHOME")
        .env_remove("PYTHONSTARTUP")
}

/// Finds an interpreter that is neither too old nor too new, and that can make environments.
fn interpreter() -> Result<String, String> {
    let chosen = std::env::var("RINGMQ_PYTHON").ok();
    let candidates = match &chosen {
        Some(chosen) => vec![chosen.as_str()],
        None => CANDIDATES.to_vec(),
    };
    let mut tried = String::new();
    for candidate in candidates {
        match version(candidate) {
            Ok(minor) if !MINORS.contains(&minor) => {
                tried += &format!("\n  {candidate}: version 3.{minor}");
            }
            Ok(_) => {
                match execute(Command::new(candidate).args(["-c", "import venv, ensurepip"])) {
                    Ok(()) => return Ok(candidate.to_owned()),
                    Err(_) => tried += &format!("\n  {candidate}: has no venv or no ensurepip"),
                }
            }
            Err(error) => tried += &format!("\n  {candidate}: {error}"),
        }
    }
    Err(format!(
        "The SDK tests need Python 3.{} to 3.{} with venv and ensurepip (Debian and Ubuntu: apt \
         install python3 python3-venv; Fedora: dnf install python3). RINGMQ_PYTHON names another \
         interpreter. Tried:{tried}",
        MINORS.start(),
        MINORS.end(),
    ))
}

/// Returns the minor version of an interpreter of Python 3.
fn version(interpreter: &str) -> Result<u32, String> {
    let ask = "import sys; assert sys.version_info[0] == 3; print(sys.version_info[1])";
    let finished = run(
        clean(Command::new(interpreter).args(["-c", ask])),
        ASK_DEADLINE,
    )?;
    if !finished.success {
        return Err(finished.ending);
    }
    finished
        .output
        .trim()
        .parse()
        .map_err(|_| format!("no version: {}", finished.output))
}

fn execute(command: &mut Command) -> Result<(), String> {
    let finished = run(clean(command), INSTALL_DEADLINE)?;
    if finished.success {
        Ok(())
    } else {
        Err(format!("{}\n{}", finished.ending, finished.output))
    }
}
