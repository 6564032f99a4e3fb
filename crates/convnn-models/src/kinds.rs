//! How a list of layers becomes the table `[layer]`.

/// Defines the configuration enum of a list of layers: one variant per kind, told apart by `kind` in TOML and JSON.
macro_rules! kinds {
    (
        $(#[$doc:meta])*
        pub enum $name:ident: $options:ident {
            $($(#[$variant_doc:meta])* $kind:literal => $variant:ident($config:ty),)+
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "kind")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $kind)] $variant($config),)+
        }

        impl $name {
            /// Every kind.
            pub const KINDS: &'static [&'static str] = &[$($kind),+];

            /// The kind, as written in the configuration.
            pub const fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $kind,)+
                }
            }

            /// The options, whatever the kind.
            pub fn options(&self) -> &dyn $options {
                match self {
                    $(Self::$variant(options) => options,)+
                }
            }
        }

        $(impl From<$config> for $name {
            fn from(options: $config) -> Self {
                Self::$variant(options)
            }
        })+
    };
}

pub(crate) use kinds;
