"""The main job, end to end on real images; also a worked example that uses only public names of the library."""
