"""What people type: the command line and the demo. It may import anything of ours; nothing of ours imports
it."""
