# A device in a shell: bash quickstart.sh
URL=@URL@
HARDWARE_KEY=@HARDWARE_KEY@
SN=QS$(date +%s)-$$
MAC=$(printf '02:00:%02x:%02x:%02x:%02x' $((RANDOM % 256)) $((RANDOM % 256)) $((RANDOM % 256)) $((RANDOM % 256)))

# Register once, and keep what is answered: the access key is shown this once.
DEVICE=$(curl -fsS -X POST "$URL/v1/devices" -H "Content-Type: application/json" \
  -d "{\"hardware_key\": \"$HARDWARE_KEY\", \"sn\": \"$SN\", \"mac\": \"$MAC\", \"firmware_version\": \"1.0.0\"}") || exit 1
field() { sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
ID=$(echo "$DEVICE" | field id)
KEY=$(echo "$DEVICE" | field access_key)
echo "Claim me: serial number $SN, MAC $MAC at $URL/claim?sn=$SN&mac=$MAC"

# Tell something every five seconds; the answer says what waits for the device.
while true; do
  curl -fsS -X POST "$URL/v1/devices/$ID/telemetry" -H "Authorization: $KEY" -H "Content-Type: application/json" \
    -d "{\"status\": \"online\", \"telemetries\": {\"temperature\": $((20 + RANDOM % 5))}}" || exit 1
  echo
  sleep 5
done
