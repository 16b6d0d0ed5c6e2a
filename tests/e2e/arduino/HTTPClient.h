#pragma once
#include "Arduino.h"
struct HTTPClient {
  bool begin(String url);
  void addHeader(const String &name, const String &value);
  int POST(String payload);
  String getString();
  void end();
};
