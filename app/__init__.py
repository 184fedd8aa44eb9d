"""The kernel: the saga engine and its infrastructure, independent of services, workflows and the web."""
