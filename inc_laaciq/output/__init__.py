"""Write results so that the final path holds all of them or none.

A run takes minutes to hours and can end at any moment: a full disk, Ctrl-C, a kill.  Everything is therefore written
beside the final path, forced to the disk, and renamed into place in one step; a folder that is replaced is moved aside
for that, and comes back at the next run if this one is killed between the two.  A lock keeps two runs from the same
output.  What a killed run left of a folder is cleared by the next one; of a single file a hidden one may stay.  Only
the standard library is used, so that a wrong output path is refused before anything slow is imported.
"""

from inc_laaciq.output.checks import check_output, check_space
from inc_laaciq.output.files import check_file, write_bytes_atomic, write_json_atomic, write_text_atomic
from inc_laaciq.output.folder import OutputFolder, atomic_folder
from inc_laaciq.output.names import FAILED_SUFFIX, RECORD
from inc_laaciq.output.several import write_several_atomic

__all__ = [
    "FAILED_SUFFIX",
    "RECORD",
    "OutputFolder",
    "atomic_folder",
    "check_file",
    "check_output",
    "check_space",
    "write_bytes_atomic",
    "write_json_atomic",
    "write_several_atomic",
    "write_text_atomic",
]
