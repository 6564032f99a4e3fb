//! `convnn export --to pytorch`: the program computes what this one does.

use crate::bad_input::refused;
use crate::command::{convnn, finish, succeed, tiny_vgg, tiny_vit};
use std::path::Path;
use std::process::Command;

/// A Python with torch: CONVNN_PYTHON or python3; `None` if it lacks it.
fn python() -> Option<Command> {
    let program = std::env::var_os("CONVNN_PYTHON").unwrap_or("python3".into());
    let works = Command::new(&program).args(["-c", "import torch"]).output().is_ok_and(|o| o.status.success());
    if !works {
        eprintln!("skipped: {} has no torch; set CONVNN_PYTHON", program.to_string_lossy());
    }
    works.then(|| Command::new(program))
}

fn export(run: &Path, out: &Path, options: &[&str]) -> Command {
    let mut command = convnn();
    command.arg("export").arg(run).arg(out).args(["--to", "pytorch"]).args(options);
    command
}

/// With few channels many tokens are multiples of each other after a ReLU: of equal cosine but for rounding, so that 64 bits
/// do not decide between them either.
const WIDE: &str = "model.features=[\"M\", \"M\", 16, \"M\", 16, \"M\"]";

#[test]
fn logits_are_those_of_the_reference() {
    let Some(_) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    for (number, (vgg, settings, half)) in [
        (true, &["layer.kind=branching_2d"][..], true),
        (true, &["layer.kind=conv2d", "model.head=mlp", "model.hidden=16"], false),
        (true, &["layer.kind=conv_nn_2d", "layer.similarity=euclidean", "layer.kernel=depthwise"], false),
        (true, &["layer.kind=conv_nn_2d_attention", WIDE, "layer.candidates={spatial={n=4}}"], false),
        (true, &["layer.kind=branching_2d_attention", WIDE], true),
        (false, &["layer.kind=conv_nn_attention", "layer.candidates=all", "layer.heads=2"], true),
        (false, &["layer.kind=conv_nn_attention", "layer.candidates={spatial={n=10}}", "layer.kernel=standard"], false),
        (false, &["layer.kind=multi_head_attention", "layer.heads=2"], false),
    ]
    .into_iter()
    .enumerate()
    {
        let [run, out] = ["run", "out"].map(|name| folder.path().join(format!("{name}{number}")));
        let mut command = if vgg { tiny_vgg(&run, 1) } else { tiny_vit(&run, 1) };
        if settings.contains(&"layer.kernel=depthwise") {
            command.args(["--set", "model.features=[\"M\", \"M\", 3, \"M\", 3, \"M\"]"]);
        }
        for setting in settings {
            command.args(["--set", setting]);
        }
        succeed(&mut command);
        succeed(&mut export(&run, &out, if half { &["--half"] } else { &[] }));
        let program = out.join("model.py");
        let checked = finish(python().unwrap().arg(&program).arg("--check"));
        assert_eq!(checked.code, Some(0), "{settings:?}: {checked:?}");
        eprintln!("{settings:?}\n{}", checked.stdout);

        // The check can fail.
        let model = out.join("reference.safetensors");
        let mut bytes = std::fs::read(&model).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[header..].chunks_exact_mut(8).for_each(|value| value.copy_from_slice(&1f64.to_le_bytes()));
        std::fs::write(&model, bytes).unwrap();
        assert_eq!(finish(python().unwrap().arg(&program).arg("--check")).code, Some(1), "{settings:?}");
    }
}

#[test]
fn what_the_program_cannot_compute_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [run, out] = ["run", "out"].map(|name| folder.path().join(name));
    succeed(&mut tiny_vit(&run, 1));
    refused(&mut export(&run, &out, &[]), &["`layer.candidates` is random; expected all or spatial"]);
    assert!(!out.exists());
}
