"""The parts of ``tools/first_ten_minutes.sh``: commands of the documentation, a desk, a terminal, and the record."""
