import sys,os
for f in ("results","notes","about","calibration"):
    print(open(sys.argv[1]+"/"+f).read())
