"""The node beside the PACS: receives images, keeps records, queues analyses. Never loads torch."""
