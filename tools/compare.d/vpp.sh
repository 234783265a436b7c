PACKAGES_vpp=()
missing_vpp() { return 0; }
