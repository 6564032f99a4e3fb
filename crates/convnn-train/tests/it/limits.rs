//! Numbers beyond every use, too little memory, slow input and unusual paths: one line that names the bound, exit code 2,
//! in under a second.

use crate::command::{Finished, contents, convnn, finish, succeed, tiny_vgg};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Runs `command`, which must be refused with one line that holds all of `parts`.
#[track_caller]
fn refused(command: &mut Command, parts: &[&str]) -> String {
    let started = Instant::now();
    let Finished { code, stdout, stderr } = finish(command);
    let seconds = started.elapsed();
    assert_eq!(code, Some(2), "{command:?}: {stderr}");
    assert_eq!(stdout, "", "{command:?}");
    assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} in {stderr:?}");
    }
    // Time for a busy machine; what is meant is not minutes.
    assert!(seconds < Duration::from_secs(5), "{command:?} took {seconds:?}");
    stderr
}

fn train(preset: &str, set: &str) -> Command {
    let mut command = convnn();
    command.args(["train", "--preset", preset, "--data", "sample", "--epochs", "1", "--set", set]);
    command
}

#[test]
fn numbers_have_upper_limits() {
    let (trillion, huge) = ("1000000000000", "9223372036854775807");
    for (preset, key, most) in [
        ("vgg11_compact", "epochs", "1000000"),
        ("vgg11_compact", "batch_size", "65536"),
        ("vgg11_compact", "warmup_epochs", "1000000"),
        ("vgg11_compact", "momentum", "below 1"),
        ("vgg11_compact", "weight_decay", "1000"),
        ("vgg11_compact", "step_factor", "1000"),
        ("vgg11_compact", "model.hidden", "65536"),
        ("vgg11_compact", "model.image", "4096"),
        ("vgg11_compact", "model.classes", "65536"),
        ("vgg11_compact", "model.head_gain", "1000"),
        ("vgg11_compact", "layer.neighbors", "1048576"),
        ("vgg11_compact", "layer.padding", "1024"),
        ("vgg11_compact", "layer.kernel_size", "1024"),
        ("vgg11_compact", "layer.shuffle_scale", "256"),
        ("vgg11_compact", "layer.candidates.random.n", "4194304"),
        ("vgg11_compact", "layer.candidates.spatial.n", "65536"),
        ("vit_compact", "model.dim", "8192"),
        ("vit_compact", "model.mlp", "65536"),
        ("vit_compact", "model.layers", "1024"),
        ("vit_compact", "model.patch", "4096"),
        ("vit_compact", "layer.heads", "1048576"),
    ] {
        for number in [trillion, huge] {
            refused(
                &mut train(preset, &format!("{key}={number}")),
                &[&format!("--set {key}={number}: `{key}` is"), most],
            );
        }
    }
    for key in ["epochs", "batch_size", "step_epochs", "accumulate", "early_stopping"] {
        let parts = [&format!("`{key}` is 0"), "a whole number from 1 to"];
        refused(&mut train("vgg11_compact", &format!("{key}=0")), &parts);
    }
    refused(
        &mut train("vgg11_compact", "layer.candidates.spatial.n=100000"),
        &["`layer.candidates.spatial.n`", "65536"],
    );
    refused(
        &mut train("vgg11_compact", "layer.candidates={spatial={n=8,margin=4294967296}}"),
        &["spatial.margin", "65536"],
    );
    refused(
        &mut train("vgg11_compact", "model.features=[1000000000000]"),
        &["`model.features` is 1000000000000", "8192"],
    );
    refused(&mut train("vgg11_compact", "model.image=9223372036854775812"), &["`model.image`", "4096"]);
    refused(&mut train("vgg11_compact", "epochs=99999999999999999999"), &["`epochs`", "1000000"]);
    let long = format!("model.features=[{}4]", "4, ".repeat(2000));
    refused(&mut train("vgg11_compact", &long), &["`model.features` is a list of 2001", "1024"]);
}

#[test]
fn numbers_that_are_too_large_together_are_refused() {
    refused(
        train("vit_compact", "model.patch=1").args(["--set", "model.image=4096"]),
        &["`model.patch` is 1", "16385"],
    );
    refused(
        &mut train("vgg11_compact", "model.image=4096"),
        &["`padding` is 1 around a map of 4096x4096", "4194304 tokens"],
    );
    let conv2d = ["--set", "layer.kind=conv2d"];
    refused(
        train("vgg11", "model.image=4096").args(conv2d),
        &["--set model.image=4096", "at most 1000 GFLOPs per image"],
    );
    let shuffled = ["layer.kind=conv_nn_2d", "layer.shuffle=both", "layer.shuffle_scale=256"];
    let sets = shuffled.iter().flat_map(|set| ["--set", set]);
    refused(train("vgg11_compact", "model.features=[64]").args(sets), &["`shuffle_scale` is 256", "1048576 channels"]);
    let wide = ["--set", "layer.kernel_size=1024", "--set", "layer.kind=conv2d"];
    refused(train("vgg11_compact", "model.features=[8192, 8192, \"M\"]").args(wide), &["4294967296 values"]);
}

#[test]
fn arguments_are_bounded() {
    refused(&mut train("vgg11_compact", &format!("{}=1", vec!["a"; 50_000].join("."))), &["at most 5 names"]);
    refused(&mut train("vgg11_compact", &format!("seed={}{}", "[".repeat(50_000), "]".repeat(50_000))), &["`seed`"]);
    for threads in ["100000", "99999999999999999999", "-1", "x"] {
        refused(
            train("vgg11_compact", "seed=1").env("RAYON_NUM_THREADS", threads),
            &["RAYON_NUM_THREADS", threads, "1024"],
        );
    }
    refused(train("vgg11_compact", "seed=1").args(["--threads", "100000"]), &["--threads", "100000", "1024"]);
}

#[test]
fn a_weights_folder_has_the_same_limits() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&mut tiny_vgg(&folder.path().join("run"), 1));
    let weights = folder.path().join("run/weights");
    // A list of digests would refuse the edited file first.
    let _ = std::fs::remove_file(weights.join("SHA256SUMS"));
    let path = weights.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, parts) in [
        ("\"padding\": 1", "\"padding\": 9223372036854775808", ["`padding`", "1024"]),
        ("\"neighbors\": 9", "\"neighbors\": 1000000000000", ["`neighbors`", "1048576"]),
        ("\"image\": 32", "\"image\": 9223372036854775812", ["`model.image`", "4096"]),
        ("\"shuffle_scale\": 1", "\"shuffle_scale\": 4294967296", ["`shuffle_scale`", "256"]),
        (
            "\"candidates\": \"all\"",
            "\"candidates\": {\"spatial\": {\"n\": 100000}}",
            ["candidates.spatial.n", "65536"],
        ),
    ] {
        assert!(text.contains(from), "{from} in {text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        refused(convnn().args(["eval", "--data", "sample"]).arg(&weights), &parts);
    }
}

/// `command` in a shell with a limit on its address space.
fn limited(kilobytes: u64, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"");
    command.args(["-c", &script]).arg(env!("CARGO_BIN_EXE_convnn")).args(arguments);
    command.env_remove("CONVNN_LOG").env_remove("CONVNN_DATA").env("RAYON_NUM_THREADS", "1");
    command
}

#[test]
fn too_little_memory_says_what_is_needed_and_what_would_fit() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let vit = |batch: &str, kilobytes| {
        let batch = format!("batch_size={batch}");
        let arguments =
            ["train", "--preset", "vit_tiny", "--data", "sample", "--epochs", "1", "--set", &batch, "--out"];
        limited(kilobytes, &[&arguments[..], &[out.to_str().unwrap()]].concat())
    };
    let line =
        refused(&mut vit("256", 3_000_000), &["batch size 256 needs about", "GB", "ulimit -v", "`batch_size`", "fits"]);
    let fits: usize = line.split("`batch_size` ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((4..256).contains(&fits), "{line}");
    refused(&mut vit("256", 200_000), &["even a batch of one needs"]);
    assert!(!out.exists());
}

#[test]
fn a_batch_size_that_is_said_to_fit_does() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let run = |batch: usize| {
        let batch = format!("batch_size={batch}");
        let arguments = ["train", "--preset", "vit_compact", "--data", "sample", "--epochs", "1", "--set"];
        let sets = ["model.layers=2", "--set", &batch, "--out", out.to_str().unwrap()];
        finish(&mut limited(700_000, &[&arguments[..], &sets].concat()))
    };
    let refusal = run(512);
    assert_eq!(refusal.code, Some(2), "{refusal:?}");
    let fits: usize = refusal.stderr.split("`batch_size` ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let finished = run(fits);
    assert_eq!(finished.code, Some(0), "batch size {fits}: {finished:?}");
}

/// Under a limit that an evaluation in one batch exceeds, the batch size named in the refusal is enough.
#[test]
fn an_evaluation_says_which_batch_size_fits() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let mut train = convnn();
    train.args(["train", "--preset", "vit_compact", "--data", "sample", "--epochs", "1", "--holdout", "448", "--out"]);
    succeed(train.arg(&out).args(["--set", "model.layers=2", "--set", "model.patch=2"]));
    let eval = |batch: &str, kilobytes| {
        limited(kilobytes, &["eval", "--data", "sample", "--batch-size", batch, out.to_str().unwrap()])
    };
    let parts = ["evaluating at batch size 256 needs about", "ulimit -v", "`--batch-size`", "fits"];
    let line = refused(&mut eval("256", 700_000), &parts);
    let fits: usize = line.split("`--batch-size` ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((4..256).contains(&fits), "{line}");
    succeed(&mut eval(&fits.to_string(), 700_000));
    refused(&mut eval("1", 200_000), &["even a batch of one needs", "raise the limit"]);
}

#[test]
fn slow_and_strange_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str| {
        let mut command = convnn();
        command.args(["train", "--data", "sample", "--config"]).arg(folder.path().join(name));
        command
    };
    let keys: String = (0..400_000).map(|key| format!("k{key}=1\n")).collect();
    std::fs::write(folder.path().join("large.toml"), &keys).unwrap();
    refused(&mut with("large.toml"), &["large.toml", "at most 1048576"]);
    std::fs::write(folder.path().join("keys.toml"), &keys[..1 + keys[..1_000_000].rfind('\n').unwrap()]).unwrap();
    refused(with("keys.toml").args(["--preset", "vgg11"]), &["keys.toml:1:1: unknown key `k0`"]);
    for (name, text) in [
        ("deep.toml", format!("{}=1\n", vec!["a"; 200_000].join("."))),
        ("nested.toml", format!("seed = {}{}\n", "[".repeat(200_000), "]".repeat(200_000))),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
        refused(with(name).args(["--preset", "vgg11"]), &[name]);
    }
    assert!(Command::new("mkfifo").arg(folder.path().join("fifo")).status().unwrap().success());
    refused(&mut with("fifo"), &["fifo: not a regular file; expected a TOML file"]);
    refused(&mut with("."), &["a folder; expected a TOML file"]);
}

#[test]
fn names_cannot_change_the_terminal_or_forge_lines() {
    let folder = tempfile::tempdir().unwrap();
    let name = "x\n999 passed, 0 failed\u{1b}[2J\u{202e}";
    let escaped = r"x\n999 passed, 0 failed\u{1b}[2J\u{202e}";
    let path = folder.path().join(name);
    refused(convnn().args(["train", "--preset", "vgg11", "--config"]).arg(&path), &[escaped]);
    std::fs::write(&path, "lr = 1\n").unwrap();
    refused(
        convnn().args(["train", "--preset", "vgg11", "--config"]).arg(&path),
        &[&format!("{escaped}:1:1: "), "`learning_rate`"],
    );
    refused(convnn().args(["eval"]).arg(&path), &[escaped]);
    refused(&mut train("vgg11_compact", &format!("{name}=1")), &[escaped]);
    refused(train("vgg11_compact", &format!("data={name}/missing")).args(["--set", "lr=0"]), &["learning_rate"]);
    refused(convnn().args(["info", name]), &[escaped]);
    let parity = finish(convnn().arg("parity").arg(&path));
    assert!(!parity.stderr.contains('\u{1b}') && parity.stderr.contains(escaped), "{parity:?}");
    assert_eq!(parity.stdout, "0 passed, 1 failed\n");
}

#[test]
fn unusual_paths_work() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["with space", "größe-図", "it's", "new\nline", "-dash"] {
        let out = folder.path().join(name);
        let finished = succeed(tiny_vgg(&out, 1).env_remove("HOME"));
        assert!(out.join("DONE").exists(), "{name:?}");
        let eval = succeed(convnn().args(["eval", "--json"]).arg(&out).env_remove("HOME"));
        assert_eq!(eval.stdout.lines().count(), 1, "{name:?}: {}", eval.stdout);
        assert!(!finished.stderr.contains("new\nline"), "{}", finished.stderr);
    }
    let out = folder.path().join(OsStr::from_bytes(b"not-utf-8-\xff"));
    succeed(&mut tiny_vgg(&out, 1));
    assert!(out.join("DONE").exists());
}

#[test]
fn an_output_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let check = |out: &Path, part: &str| {
        let before = contents(folder.path());
        refused(&mut tiny_vgg(out, 1), &[part]);
        assert_eq!(contents(folder.path()), before);
    };
    check(&file, "not a folder");
    check(&file.join("below"), "file");
    // A folder that not even root can write to.
    check(Path::new("/proc/convnn-run"), "/proc/convnn-run");
}

#[test]
fn words_and_last_parts_of_keys() {
    let printed = |preset: &str, sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        succeed(convnn().args(["train", "--preset", preset, "--print-config"]).args(sets))
    };
    for (short, long) in [
        ("neighbors=5", "layer.neighbors=5"),
        ("K=5", "layer.neighbors=5"),
        ("k=5", "layer.neighbors=5"),
        ("lr=0.5", "learning_rate=0.5"),
        ("ratio=1", "layer.branch_ratio=1"),
        ("kappa=5", "layer.kernel_size=5"),
        ("lambda=0.25", "layer.compare={blend=0.25}"),
        ("layer.compare=blend:0.25", "layer.compare={blend=0.25}"),
        ("layer.candidates=random:32", "layer.candidates={random={n=32}}"),
        ("candidates=spatial:8", "layer.candidates={spatial={n=8}}"),
        ("candidates=spatial:8:1", "layer.candidates={spatial={n=8,margin=1}}"),
        ("candidates.random.n=12", "layer.candidates={random={n=12}}"),
        ("wd=0.1", "weight_decay=0.1"),
        ("bs=7", "batch_size=7"),
        ("kind=conv2d", "layer.kind=conv2d"),
    ] {
        let (short_text, long_text) = (printed("vgg11_compact", &[short]), printed("vgg11_compact", &[long]));
        assert_eq!(short_text.stdout, long_text.stdout, "{short}");
        let says = short_text.stderr.contains(&format!("--set {short}: {}", long.split('=').next().unwrap()));
        assert_eq!(says, short.split('=').next() != long.split('=').next(), "{short}: {}", short_text.stderr);
    }
    let said = printed("vgg11_compact", &["neighbors=5"]).stderr;
    assert!(said.contains("layer.neighbors = 5"), "{said}");

    refused(&mut train("vit_compact", "dropout=0.5"), &["`dropout` may be `model.dropout` or `layer.dropout`"]);
    refused(&mut train("vgg11_compact", "layer.lr=0.5"), &["unknown key `layer.lr`; use `learning_rate`"]);
    refused(&mut train("vgg11_compact", "modulation=none"), &["`layer.modulation` is a key of `conv_nn_attention`"]);
    refused(
        &mut train("vgg11_compact", "layer.candidates=random"),
        &["\"random\"", "`all`, `random:N` or `spatial:N[:MARGIN]`"],
    );
    refused(
        &mut train("vgg11_compact", "layer.compare=blend"),
        &["\"blend\"", "`features`, `position` or `blend:NUMBER`"],
    );
    refused(&mut train("vgg11_compact", "layer=5"), &["`layer` is 5; expected a table of keys"]);
    refused(&mut train("vgg11_compact", "layer.compare=blend:2"), &["`layer.compare.blend` is 2", "from 0 to 1"]);
}
