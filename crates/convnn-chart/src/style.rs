//! Colors, and what they become on a dark page.

use plotters::prelude::*;

/// What a picture is drawn for, which decides its colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Part of a page: no background, and the page's text color.
    Page,
    /// A standalone file: black on white, or white on black where the viewer prefers dark pages.
    File,
}

/// Colors that remain distinct with color blindness and are visible on white and on black (after Okabe and Ito).
pub(crate) const COLORS: [RGBColor; 6] = [
    RGBColor(0x2f, 0x7f, 0xc1),
    RGBColor(0xd9, 0x5f, 0x0e),
    RGBColor(0x14, 0x9c, 0x74),
    RGBColor(0xc0, 0x5f, 0xa2),
    RGBColor(0xa8, 0x8a, 0x1c),
    RGBColor(0x7a, 0x6f, 0xd0),
];

/// Black and white change places. Rules of a style sheet outrank the attributes that the elements have.
const DARK: &str = "<style>@media (prefers-color-scheme: dark) { \
    [fill=\"#000000\"] { fill: #e8e8e8 } [stroke=\"#000000\"] { stroke: #e8e8e8 } [fill=\"#FFFFFF\"] { fill: #16181d } \
    }</style>";

/// Adapts the text of a picture to `medium`, and describes it by `title`.
pub(crate) fn finish(text: &str, title: &str, medium: Medium) -> String {
    let opening = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(title));
    let text = text.replacen("<svg ", &opening, 1);
    match medium {
        Medium::Page => text.replace("\"#000000\"", "\"currentColor\""),
        Medium::File => text.replacen(">\n", &format!(">\n{DARK}\n"), 1),
    }
}

/// `text` within an attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
