"""Parts of the comparison of OpenVINO models as they are deployed."""
