# varies: OPENCV_FOR_THREADS_NUM=1: print(cv2.getNumThreads())
# varies: OPENCV_LOG_LEVEL=DEBUG: print(cv2.utils.logging.getLogLevel())
# varies: OPENCV_CPU_DISABLE=AVX2: print(cv2.getCPUFeaturesLine())
# preload: import cv2, numpy
import cv2
import numpy as np

image = (np.arange(640 * 480 * 3) % 251).astype(np.uint8).reshape(480, 640, 3)
gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
print(cv2.GaussianBlur(image, (7, 7), 2).sum(), cv2.Canny(gray, 50, 150).sum())
print(cv2.resize(image, (123, 77), interpolation=cv2.INTER_AREA).sum(), cv2.getNumThreads())
print(len(cv2.imencode(".png", image)[1]), len(cv2.imencode(".jpg", image)[1]))
print(cv2.dft(np.float32(gray)).sum(), cv2.warpAffine(gray, np.eye(2, 3), (640, 480)).sum())
noise = np.zeros((4, 4), np.uint8)
cv2.randu(noise, 0, 255)
print(noise.tolist())
