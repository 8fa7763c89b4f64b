"""What stands for web2py's scheduler: a process that is there."""

import time

while True:
    time.sleep(60)
