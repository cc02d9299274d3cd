# preload: import cv2
import cv2
import numpy

print(cv2.cvtColor(numpy.zeros((4, 4, 3), numpy.uint8), cv2.COLOR_BGR2GRAY).shape)
