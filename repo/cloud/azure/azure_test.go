package azure_test

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/holdstill/holdstill/repo"
	_ "github.com/holdstill/holdstill/repo/cloud/azure"
	"github.com/holdstill/holdstill/repo/cloud/internal/drivertest"
	"github.com/holdstill/holdstill/repo/cloud/internal/teststore"
)

func section(url string, change ...string) map[string]string {
	s := map[string]string{"type": "azureblob", "account": teststore.AzureAccount, "key": teststore.AzureKey, "endpoint": url, "access_tier": "hot"}
	for i := 0; i < len(change); i += 2 {
		if s[change[i]] = change[i+1]; change[i+1] == "" {
			delete(s, change[i])
		}
	}
	return s
}

func TestDriver(t *testing.T) {
	server := teststore.Azure(t)
	cred, err := container.NewSharedKeyCredential(teststore.AzureAccount, teststore.AzureKey)
	if err != nil {
		t.Fatal(err)
	}
	client, err := container.NewClientWithSharedKeyCredential(server.URL+"/backups", cred, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	wrong := "Y2FuYXJ5LWhXNWtaMi1jYW5hcnktaFc1a1oy"
	sas := server.URL + "?sv=2024-11-04&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&spr=https,http&sig=" + drivertest.Secret
	drivertest.Run(t, drivertest.Store{
		Section: section(server.URL), Bucket: "backups", NoBucket: "nowhere",
		Refused: []drivertest.Refusal{
			{Name: "wrong key", Section: section(server.URL, "key", wrong), Want: repo.ErrPermission},
			{Name: "wrong signature", Section: section("", "endpoint", "", "key", "", "sas_url", sas), Want: repo.ErrPermission},
			{Name: "nobody listens", Section: section("", "endpoint", "", "key", "", "sas_url", "http://127.0.0.1:1/acc?sv=1&sig="+drivertest.Secret), Want: repo.ErrUnavailable},
		},
		Invalid: []drivertest.Invalid{
			{Change: map[string]string{"key": "not base64: " + drivertest.Secret}, Says: `key "key"`},
			{Change: map[string]string{"sas_url": drivertest.Secret}, Says: "exactly one of"},
			{Change: map[string]string{"key": "", "sas_url": drivertest.Secret}, Says: "write a URL"},
			{Change: map[string]string{"key": ""}, Says: "exactly one of"},
			{Change: map[string]string{"account": ""}, Says: "account"},
			{Change: map[string]string{"key": "", "connection_string": drivertest.Secret}, Says: "connection_string"},
			{Change: map[string]string{"key": "", "client_secret": drivertest.Secret}, Says: "tenant"},
			{Change: map[string]string{"access_tier": "archive"}, Says: `"Hot" "Cool" "Cold"`},
			{Change: map[string]string{"use_emulator": drivertest.Secret}, Says: "use_emulator"},
		},
	})
	t.Run("ConnectionString", func(t *testing.T) {
		text := "DefaultEndpointsProtocol=http;AccountName=" + teststore.AzureAccount + ";AccountKey=" + teststore.AzureKey + ";BlobEndpoint=" + server.URL + ";"
		b := drivertest.Open(t, map[string]string{"type": "azureblob", "connection_string": text}, "backups/by connection string")
		if err := repo.Init(t.Context(), b, repo.InitOptions{}); err != nil {
			t.Error(err)
		}
	})
}
