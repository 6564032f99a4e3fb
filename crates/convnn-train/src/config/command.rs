//! The shortest command that trains a run again.

use super::document::{keys, lookup, to_table};
use super::{Assignment, RunConfig, Sources};
use crate::Result;
use crate::text::shell_word;
use toml::Value;

/// A key with its value.
type Setting = (String, Value);

/// The keys with an option each.
const OPTIONS: [&str; 5] = ["data", "dataset", "holdout", "epochs", "seed"];

impl RunConfig {
    /// The shortest `convnn train` command that resolves to this configuration with `images` training images. A folder
    /// with the images is written as `DIR`, and an unusual configuration as `--config config.toml`.
    ///
    /// # Errors
    /// If a value cannot be written in TOML, or the preset does not exist any more.
    pub fn command(&self, images: usize) -> Result<String> {
        let (own, preset) = (to_table(self)?, to_table(&Self::from_preset(&self.preset)?)?);
        let changed = |name: String| {
            let path: Vec<_> = name.split('.').map(str::to_owned).collect();
            let value = lookup(&own, &path)?;
            // Without this key, the number of training images decides.
            let matters = name == "batch_size" || lookup(&preset, &path) != Some(value);
            (matters && name != "preset").then(|| (name, value.clone()))
        };
        let mut settings: Vec<Setting> = keys(&own).into_iter().filter_map(changed).collect();
        if !self.is_result_of(&settings, images) {
            return Ok("convnn train --config config.toml".to_owned());
        }
        for index in (0..settings.len()).rev() {
            let setting = settings.remove(index);
            if !self.is_result_of(&settings, images) {
                settings.insert(index, setting);
            }
        }
        let mut words = vec![format!("convnn train --preset {}", shell_word(&self.preset))];
        for option in OPTIONS {
            if let Some((_, value)) = settings.iter().find(|(name, _)| name == option) {
                let word =
                    if option == "data" && self.has_folder() { "DIR".to_owned() } else { shell_word(&text(value)) };
                words.push(format!("--{option} {word}"));
            }
        }
        let others = settings.iter().filter(|(name, _)| !OPTIONS.contains(&name.as_str()));
        words.extend(others.map(|(name, value)| format!("--set {}", shell_word(&format!("{name}={}", text(value))))));
        Ok(words.join(" "))
    }

    /// Whether the images come from a folder.
    pub fn has_folder(&self) -> bool {
        is_folder(&self.data)
    }

    fn is_result_of(&self, settings: &[Setting], images: usize) -> bool {
        let assigned = settings.iter().map(|(name, value)| match OPTIONS.contains(&name.as_str()) {
            true => Ok(Assignment::new(name, value.clone(), name.clone())),
            false => Assignment::parse(&format!("{name}={}", text(value))),
        });
        let Ok(overrides) = assigned.collect::<Result<Vec<_>>>() else { return false };
        let resolved = Sources { preset: Some(&self.preset), file: None, overrides }.resolve_with_keys();
        resolved.is_ok_and(|(mut config, set)| {
            if !set.contains("batch_size") {
                config.batch_size = config.batch_size_for(images);
            }
            config == *self
        })
    }
}

/// A value as `--set` takes it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether `data` names a folder, and not another source of images.
pub fn is_folder(data: &str) -> bool {
    !["search", "sample", "hub"].contains(&data)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(preset: &str, settings: &[&str]) -> RunConfig {
        let overrides = settings.iter().map(|text| Assignment::parse(text).unwrap()).collect();
        Sources { preset: Some(preset), file: None, overrides }.resolve().unwrap()
    }

    #[test]
    fn only_what_differs_is_said() {
        for (preset, settings, command) in [
            ("vgg11_compact", &[][..], "--preset vgg11_compact"),
            (
                "vit_compact",
                &["seed=3", "epochs=2", "data=sample"],
                "--preset vit_compact --data sample --epochs 2 --seed 3",
            ),
            (
                "vgg11_compact",
                &["layer.kind=conv_nn_2d", "layer.candidates={ random = { n = 40 } }", "dataset=cifar100"],
                "--preset vgg11_compact --dataset cifar100 --set layer.kind=conv_nn_2d --set \
                 'layer.candidates={ random = { n = 40 } }'",
            ),
            (
                "vgg11_compact",
                &["augmentation=[\"crop\", \"flip\"]", "ema_decay=0.99", "clip_grad_norm=none", "data=/images"],
                "--preset vgg11_compact --data DIR --set 'augmentation=[{ crop = { padding = 4 } }, { flip = {} }]' --set clip_grad_norm=none \
                 --set ema_decay=0.99",
            ),
        ] {
            assert_eq!(config(preset, settings).command(50_000).unwrap(), format!("convnn train {command}"));
        }
    }

    /// On few images a batch is smaller, unless its size is asked for.
    #[test]
    fn the_batch_size_is_said_if_the_images_do_not_decide_it() {
        let config = config("vgg11_compact", &[]);
        assert_eq!(config.command(512).unwrap(), "convnn train --preset vgg11_compact --set batch_size=128");
        let small = RunConfig { batch_size: config.batch_size_for(512), ..config };
        assert_eq!(small.command(512).unwrap(), "convnn train --preset vgg11_compact");
    }
}
