//! Service tags as rules, routes and service endpoints name them; the model keeps only those that are used.

use super::report::{Read, Report, Reported, did_you_mean};
use crate::model::node::Node;
use crate::model::{ServiceTag, ServiceTags};

/// The service tags that can be named, and those that are.
pub struct Tags {
    known: ServiceTags,
    used: ServiceTags,
    source: TagSource,
}

/// Where the known tags come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TagSource {
    /// The configuration names no file: only the built-in ones are known.
    Builtin,
    /// The file that the configuration names.
    File,
    /// That file could not be read: nothing can be said of any tag.
    Unreadable,
}

impl Tags {
    /// These tags can be named.
    pub fn new(known: ServiceTags, source: TagSource) -> Tags {
        Tags { known, used: ServiceTags::default(), source }
    }

    /// Uses a tag, and gives its name as Microsoft writes it.
    pub fn take(
        &mut self,
        report: &mut Report,
        node: &Node,
        name: &str,
        what: impl Fn() -> String,
    ) -> Read<String> {
        let key = name.to_ascii_lowercase();
        if let Some(tag) = self.known.by_name.get(&key) {
            return Ok(take(&mut self.used, key, tag));
        }
        Err(match self.source {
            TagSource::Unreadable => Reported,
            TagSource::Builtin => {
                let hint = did_you_mean(name, self.named());
                let message = format!(
                    "{} is no prefix and no tag that is known without a service tag file; add \
                     serviceTags: with \
                     Microsoft's published file{hint}",
                    what()
                );
                report.fault(node, message)
            }
            TagSource::File => {
                let hint = did_you_mean(name, self.named());
                let message = format!(
                    "{} is no prefix and no service tag of the file that serviceTags names{hint}",
                    what()
                );
                report.fault(node, message)
            }
        })
    }

    /// Uses the tag of a service endpoint: of one region, or of all.
    pub fn take_endpoint(
        &mut self,
        report: &mut Report,
        node: &Node,
        tag: &str,
        region: Option<&str>,
    ) -> Read<String> {
        // Azure writes a region as `westus` or `West US`, in a tag as `WestUS`.
        let name = match region {
            None => tag.to_string(),
            Some(region) => format!("{tag}.{}", region.replace(' ', "")),
        };
        let key = name.to_ascii_lowercase();
        if let Some(found) = self.known.by_name.get(&key) {
            return Ok(take(&mut self.used, key, found));
        }
        Err(match self.source {
            TagSource::Unreadable => Reported,
            TagSource::Builtin => report.fault(
                node,
                format!(
                    "the prefixes of this service are those of the service tag {name}; add \
                     serviceTags: with Microsoft's published file"
                ),
            ),
            TagSource::File => {
                let hint = did_you_mean(&name, self.known.by_name.values().map(|t| t.name.as_str()));
                report.fault(
                    node,
                    format!(
                        "needs the service tag {name}, which the file that \
                         serviceTags names does not have{hint}"
                    ),
                )
            }
        })
    }

    /// What a rule may name: the tags, and those that stand for what is elsewhere in the configuration.
    fn named(&self) -> impl Iterator<Item = &str> {
        let special = ["VirtualNetwork", "Internet", "AzureLoadBalancer"];
        special.into_iter().chain(self.known.by_name.values().map(|t| t.name.as_str()))
    }

    /// Only what was used.
    pub fn into_used(self) -> ServiceTags {
        self.used
    }
}

fn take(used: &mut ServiceTags, key: String, tag: &ServiceTag) -> String {
    used.by_name.entry(key).or_insert_with(|| tag.clone());
    tag.name.clone()
}
