#pragma once
#include "Arduino.h"
enum wl_status_t { WL_CONNECTED = 3 };
struct WiFiClass {
  wl_status_t begin(const char *network, const char *password);
  wl_status_t status();
  String macAddress();
};
extern WiFiClass WiFi;
