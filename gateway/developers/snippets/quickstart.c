/* A device in C. On an ESP32 with its Arduino core: save it as quickstart.ino, fill in your network.
   On a computer, to try it without one, over plain http: cc quickstart.c && ./a.out */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *URL = "@URL@";
static const char *HARDWARE_KEY = "@HARDWARE_KEY@";
static char id[40], key[40], body[512], answer[2048];

#ifdef ARDUINO
#include <HTTPClient.h>
#include <WiFi.h>
static const char *NETWORK = "your network", *PASSWORD = "its password";

static int post(const char *path) {
  HTTPClient http;
  http.begin(String(URL) + path);
  http.addHeader("Content-Type", "application/json");
  http.addHeader("Authorization", key);
  int status = http.POST(String(body));
  snprintf(answer, sizeof answer, "%s", http.getString().c_str());
  http.end();
  return status;
}
static void say(const char *text) { Serial.println(text); }
#else
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

static int post(const char *path) {
  char host[128] = "", port[8] = "80", request[1024];
  sscanf(URL, "http://%127[^:/]:%7[0-9]", host, port);
  struct addrinfo *found;
  if (getaddrinfo(host, port, NULL, &found)) return -1;
  int line = socket(found->ai_family, SOCK_STREAM, 0), status = -1;
  size_t length = 0;
  if (connect(line, found->ai_addr, found->ai_addrlen) == 0) {
    int size = snprintf(request, sizeof request,
        "POST %s HTTP/1.1\r\nHost: %s:%s\r\nAuthorization: %s\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\nConnection: close\r\n\r\n%s", path, host, port, key, strlen(body), body);
    ssize_t got = write(line, request, (size_t)size);
    while (got > 0 && (got = read(line, answer + length, sizeof answer - 1 - length)) > 0) length += (size_t)got;
  }
  answer[length] = 0;
  sscanf(answer, "HTTP/1.1 %d", &status);
  close(line);
  freeaddrinfo(found);
  return status;
}
static void say(const char *text) { puts(text); fflush(stdout); }
static void delay(int ms) { sleep((unsigned)ms / 1000); }
static int random_byte(void) { return rand() % 256; }
#endif

/* What a member of the answer holds, as text. */
static void member(const char *name, char *into, size_t size) {
  char quoted[32];
  snprintf(quoted, sizeof quoted, "\"%s\":\"", name);
  const char *at = strstr(answer, quoted);
  size_t length = at ? strcspn(at += strlen(quoted), "\"") : 0;
  snprintf(into, size, "%.*s", (int)length, at ? at : "");
}

/* Register once, and keep what is answered (on a board in its flash): the access key is shown this once. */
static int enrol(void) {
  char sn[32], mac[24], text[96];
#ifdef ARDUINO
  snprintf(mac, sizeof mac, "%s", WiFi.macAddress().c_str());
  snprintf(sn, sizeof sn, "QS%s", mac);
#else
  srand((unsigned)time(NULL) ^ (unsigned)getpid());
  snprintf(sn, sizeof sn, "QS%ld-%d", (long)time(NULL), (int)getpid());
  snprintf(mac, sizeof mac, "02:00:%02x:%02x:%02x:%02x", random_byte(), random_byte(), random_byte(), random_byte());
#endif
  snprintf(body, sizeof body, "{\"hardware_key\":\"%s\",\"sn\":\"%s\",\"mac\":\"%s\",\"firmware_version\":\"1.0.0\"}",
           HARDWARE_KEY, sn, mac);
  if (post("/v1/devices") != 201) { say(answer); return 0; }
  member("id", id, sizeof id);
  member("access_key", key, sizeof key);
  snprintf(text, sizeof text, "Claim me: serial number %s, MAC %s", sn, mac);
  say(text);
  return 1;
}

/* Tell something; the answer says what waits for the device. */
static void tell(double temperature) {
  char path[96];
  snprintf(path, sizeof path, "/v1/devices/%s/telemetry", id);
  snprintf(body, sizeof body, "{\"status\":\"online\",\"telemetries\":{\"temperature\":%.1f}}", temperature);
  post(path);
  const char *json = strchr(answer, '{');
  say(json ? json : answer);
}

void setup(void) {
#ifdef ARDUINO
  Serial.begin(115200);
  WiFi.begin(NETWORK, PASSWORD);
  while (WiFi.status() != WL_CONNECTED) delay(500);
#endif
  if (!enrol()) exit(1);
}

void loop(void) {
  tell(20 + (double)(time(NULL) % 50) / 10);
  delay(5000);
}

#ifndef ARDUINO
int main(void) {
  setup();
  for (;;) loop();
}
#endif
