//! Microsoft's published service tags: the downloaded file, what `az network list-service-tags` prints, either gzipped too.

use std::io::Read;
use std::sync::Arc;

use super::fault::Fault;
use super::node::{Mark, Node};
use super::text;
use super::{ServiceTag, ServiceTags};
use crate::types::Prefix;

/// Largest file, unpacked, in bytes; Microsoft's is 4 MB.
const MAX_BYTES: u64 = 64 << 20;

/// The tags of the platform, which Microsoft's file leaves out.
pub fn builtin() -> ServiceTags {
    let tag = |name: &str, prefixes: &[Prefix]| {
        (name.to_ascii_lowercase(), ServiceTag { name: name.to_owned(), prefixes: prefixes.to_vec() })
    };
    ServiceTags {
        by_name: [
            tag("AzurePlatformDNS", &[Prefix::v4(168, 63, 129, 16, 32)]),
            tag("AzurePlatformIMDS", &[Prefix::v4(169, 254, 169, 254, 32)]),
            // Windows activation (KMS), as in
            // https://learn.microsoft.com/troubleshoot/azure/virtual-machines/custom-routes-enable-kms-activation
            tag(
                "AzurePlatformLKM",
                &[
                    Prefix::v4(20, 118, 99, 224, 32),
                    Prefix::v4(23, 102, 135, 246, 32),
                    Prefix::v4(40, 83, 235, 53, 32),
                ],
            ),
        ]
        .into(),
    }
}

/// The tags of a service tag file, and those of [`builtin`] that it does not define itself.
pub fn read_service_tags(file: &str, text: &[u8]) -> Result<ServiceTags, Vec<Fault>> {
    let unpacked;
    let text = match text {
        [0x1f, 0x8b, ..] => {
            unpacked = unpack(file, text).map_err(|fault| vec![fault])?;
            unpacked.as_slice()
        }
        _ => text,
    };
    let document = text::parse(file, text)?;
    let Some(values) = document.get_ci("values").and_then(Node::as_list) else {
        let message = "is no file of service tags: it has no list 'values'; \
                       Microsoft publishes the file as ServiceTags_Public_DATE.json";
        return Err(vec![document.fault(message)]);
    };
    let mut faults = Vec::new();
    let mut tags = ServiceTags::default();
    for value in values {
        if faults.len() >= text::MAX_FAULTS {
            break;
        }
        let Some(tag) = read_tag(value, &mut faults) else { continue };
        let name = tag.name.clone();
        if tags.by_name.insert(name.to_ascii_lowercase(), tag).is_some() {
            faults.push(value.mark.fault(name, "this service tag stands twice in the file"));
        }
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    for (key, tag) in builtin().by_name {
        tags.by_name.entry(key).or_insert(tag);
    }
    Ok(tags)
}

fn unpack(file: &str, packed: &[u8]) -> Result<Vec<u8>, Fault> {
    let mark = Mark { file: Arc::from(file), line: 0, column: 0 };
    let mut out = Vec::new();
    match flate2::read::MultiGzDecoder::new(packed).take(MAX_BYTES + 1).read_to_end(&mut out) {
        Ok(_) if out.len() as u64 > MAX_BYTES => {
            Err(mark
                .fault("", format!("unpacks to more than {MAX_BYTES} bytes; a service tag file is smaller")))
        }
        Ok(_) => Ok(out),
        Err(error) => Err(mark.fault("", format!("cannot be unpacked with gzip: {error}"))),
    }
}

fn read_tag(value: &Node, faults: &mut Vec<Fault>) -> Option<ServiceTag> {
    let Some(name) = value.get_ci("name").and_then(Node::as_str).filter(|n| !n.is_empty()) else {
        faults.push(value.fault("a service tag needs a name"));
        return None;
    };
    // The REST interface nests the list, and az may not.
    let nested = value.get_ci("properties").and_then(|p| p.get_ci("addressPrefixes"));
    let Some(list) = nested.or_else(|| value.get_ci("addressPrefixes")).and_then(Node::as_list) else {
        faults.push(value.mark.fault(name, "a service tag needs a list properties.addressPrefixes"));
        return None;
    };
    let mut prefixes = Vec::with_capacity(list.len());
    for item in list {
        if faults.len() >= text::MAX_FAULTS {
            break;
        }
        match item.as_str().map(str::parse::<Prefix>) {
            Some(Ok(prefix)) => prefixes.push(prefix),
            Some(Err(error)) => faults.push(item.fault(error.to_string())),
            None => faults.push(item.fault("is not an IP prefix such as 13.64.39.16/32")),
        }
    }
    Some(ServiceTag { name: name.to_owned(), prefixes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const FILE: &str = r#"{"changeNumber": 1, "cloud": "Public", "values": [
      {"name": "Storage.WestUS", "id": "Storage.WestUS", "properties": {"region": "westus", "addressPrefixes": ["13.64.0.0/16", "2603::/32"]}},
      {"name": "AzurePlatformDNS", "addressPrefixes": ["168.63.129.16/32"]}]}"#;

    #[test]
    fn reads_tags_and_adds_the_built_in_ones() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(FILE.as_bytes()).unwrap();
        for text in [FILE.as_bytes().to_vec(), packed.finish().unwrap()] {
            let tags = read_service_tags("t.json", &text).unwrap();
            assert_eq!(tags.by_name.len(), 4);
            assert_eq!(tags.find("STORAGE.westus").unwrap().name, "Storage.WestUS");
            assert_eq!(tags.find("storage.westus").unwrap().prefixes.len(), 2);
            assert_eq!(
                tags.find("AzurePlatformIMDS").unwrap().prefixes,
                [Prefix::v4(169, 254, 169, 254, 32)]
            );
        }
        assert!(builtin().find("AzurePlatformLKM").is_some_and(|t| t.prefixes.len() == 3));
        assert!(builtin().find("VirtualNetwork").is_none() && builtin().find("Internet").is_none());
    }

    #[test]
    fn refuses_what_is_no_tag() {
        for (text, fault) in [
            ("{}", "is no file of service tags"),
            ("{\"values\": [7]}", "t.json:1:13: error: '7': a service tag needs a name"),
            ("{\"values\": [{\"name\": \"A\"}]}", "t.json:1:13: error: 'A': a service tag needs a list"),
            (
                "{\"values\": [{\"name\": \"A\", \"properties\": {\"addressPrefixes\": [\"10.0.0.1/8\"]}}]}",
                "t.json:1:62: error: '10.0.0.1/8': has bits set behind its length; 10.0.0.0/8 would be right",
            ),
            (
                "{\"values\": [{\"name\": \"A\", \"addressPrefixes\": []}, {\"name\": \"a\", \"addressPrefixes\": []}]}",
                "t.json:1:51: error: 'a': this service tag stands twice",
            ),
            ("\u{1f}", "control character"),
        ] {
            let faults = read_service_tags("t.json", text.as_bytes()).unwrap_err();
            assert!(faults[0].to_string().contains(fault), "{text}: {}", faults[0]);
        }
        let faults = read_service_tags("t.json.gz", &[0x1f, 0x8b, 8, 0]).unwrap_err();
        assert!(faults[0].to_string().starts_with("t.json.gz: error: cannot be unpacked"), "{}", faults[0]);
    }
}
