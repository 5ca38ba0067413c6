"""Files and pages become plain texts that remember where they were."""
