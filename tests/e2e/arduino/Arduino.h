/* Declarations of the ESP32's Arduino core, as far as the quickstart's sketch calls it. */
#pragma once
#include <stdlib.h>
struct String {
  String(const char *text);
  String operator+(const char *more) const;
  const char *c_str() const;
};
struct HardwareSerial {
  void begin(unsigned long baud);
  void println(const char *text);
};
extern HardwareSerial Serial;
void delay(unsigned int ms);
