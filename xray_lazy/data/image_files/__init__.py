"""Image files as arrays: colour, 16 bits, any number of channels, DICOM; what can't be read says why."""
