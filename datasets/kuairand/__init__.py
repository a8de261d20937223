"""The KuaiRand logs."""
