/* Parsers, signatures and credentials of the clouds: what needs no server. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backends/azure_sign.h"
#include "backends/endpoint.h"
#include "backends/gcs_auth.h"
#include "backends/http_parse.h"
#include "backends/page.h"
#include "backends/registry.h"
#include "backends/s3_sign.h"
#include "backends/xml.h"
#include "fs/base/scope.h"

/* -- headers -------------------------------------------------------------------------------- */

START_TEST(dates)
{
	static const struct {
		const char *text;
		int64_t t;
	} good[] = {
		/* RFC 9110 section 5.6.7's own examples */
		{ "Sun, 06 Nov 1994 08:49:37 GMT", 784111777 },
		{ "Sunday, 06-Nov-94 08:49:37 GMT", 784111777 },
		{ "Sun Nov  6 08:49:37 1994", 784111777 },
		{ "Thu, 01 Jan 1970 00:00:00 GMT", 0 },
		{ "Thu, 29 Feb 2024 23:59:60 GMT", 1709251200 },
		{ "Tue, 01 Mar 2022 00:00:00 GMT", 1646092800 },
		{ "Fri, 31 Dec 9999 23:59:59 GMT", 253402300799 },
	};
	static const char *const bad[] = {
		"",
		"Sun",
		"Sun, ",
		"Sun, 06 Nov 1994 08:49:37",
		"Sun, 06 Nov 1994 08:49:37 UTC",
		"Sun, 06 Nov 1994 24:49:37 GMT",
		"Sun, 32 Nov 1994 08:49:37 GMT",
		"Sun, 00 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:37 GMT ",
		"Sun, 06 Nov 19945 08:49:37 GMT",
		"Sun, 6 Nov 1994 08:49:37 GMT",
		"Thu, 01 Jan 1969 00:00:00 GMT",
		"Sunday, 06-Nov-94",
		"Sun Nov  6 08:49:37 199",
		"Sun, 30 Feb 2024 00:00:00 GMT",
		"784111777",
	};
	int64_t t;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		ck_assert_int_eq(http_date_parse(good[i].text, &t), 0);
		ck_assert_int_eq(t, good[i].t);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(http_date_parse(bad[i], &t) == -EINVAL, "%s", bad[i]);
}
END_TEST

START_TEST(ranges)
{
	static const char *const bad[] = { "",
					   "bytes",
					   "bytes ",
					   "bytes 1-0/9",
					   "bytes 0-9/9",
					   "bytes 0-1",
					   "bytes 0-1/",
					   "bytes 0-1/2 ",
					   "bytes -1/2",
					   "items 0-1/2",
					   "bytes 0-18446744073709551615/*",
					   "bytes 0-99999999999999999999/*" };
	struct http_range r;

	ck_assert_int_eq(http_range_parse("bytes 5-9/10", &r), 0);
	ck_assert(r.first == 5 && r.last == 9 && r.total == 10);
	ck_assert_int_eq(http_range_parse("bytes 0-0/*", &r), 0);
	ck_assert(r.total == UINT64_MAX);
	ck_assert_int_eq(http_range_parse("bytes */0", &r), 0);
	ck_assert(r.first > r.last && r.total == 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(http_range_parse(bad[i], &r) == -EINVAL, "%s", bad[i]);
}
END_TEST

START_TEST(retry_after)
{
	ck_assert_int_eq(http_retry_after("7", 0), 7 * NS_PER_S);
	ck_assert_int_eq(http_retry_after("99999999", 0), 3600 * NS_PER_S);
	ck_assert_int_eq(http_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111770),
			 7 * NS_PER_S);
	ck_assert_int_eq(http_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111780), 0);
	ck_assert_int_eq(http_retry_after("soon", 0), 0);
	ck_assert_int_eq(http_retry_after("-1", 0), 0);
}
END_TEST

/* -- endpoints and paths -------------------------------------------------------------------- */

START_TEST(endpoints)
{
	static const char *const bad[] = { "",
					   "https://",
					   "ftp://x",
					   "https://a b",
					   "https://x:0",
					   "https://x:70000",
					   "https://x:",
					   "https://u@x",
					   "https://[::1",
					   "https://x/a?b",
					   "https://x/../y",
					   "http://example.org",
					   "http://10.0.0.1:9000",
					   "http://127.0.0.1.example.org" };
	struct endpoint ep;

	ck_assert_int_eq(endpoint_parse("https://Minio.Example.org:9000/base/", 0, &ep, NULL), 0);
	ck_assert(ep.tls && !ep.loopback);
	ck_assert_str_eq(ep.host, "minio.example.org");
	ck_assert_str_eq(ep.authority, "minio.example.org:9000");
	ck_assert_str_eq(ep.base, "/base");
	ck_assert_int_eq(endpoint_parse("host:443", 0, &ep, NULL), 0);
	ck_assert_str_eq(ep.authority, "host"); /* the scheme's own port is not part of Host */
	ck_assert_int_eq(endpoint_parse("http://127.0.0.1:7480", 0, &ep, NULL), 0);
	ck_assert(!ep.tls && ep.loopback);
	ck_assert_int_eq(endpoint_parse("http://[::1]:80", 0, &ep, NULL), 0);
	ck_assert_str_eq(ep.authority, "[::1]");
	ck_assert_int_eq(endpoint_parse("http://s3.localhost", 0, &ep, NULL), 0);
	ck_assert_int_eq(endpoint_parse("http://example.org", 1, &ep, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(endpoint_parse(bad[i], 0, &ep, NULL) == -EINVAL, "%s", bad[i]);
}
END_TEST

START_TEST(paths)
{
	static const char *const bad[] = { "", "/", "b/a/../c", "b/.", "b/..", "b/a\\c", "b/\x01" };
	char *bucket, *prefix;

	ck_assert_int_eq(path_split("b", "bucket", &bucket, &prefix, NULL), 0);
	ck_assert_str_eq(bucket, "b");
	ck_assert_str_eq(prefix, "");
	free(bucket), free(prefix);
	ck_assert_int_eq(path_split("/b//x/y z/.h/", "bucket", &bucket, &prefix, NULL), 0);
	ck_assert_str_eq(prefix, "x/y z/.h");
	free(bucket), free(prefix);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_int_eq(path_split(bad[i], "bucket", &bucket, &prefix, NULL), -EINVAL);
}
END_TEST

START_TEST(percent)
{
	struct buf b = { 0 };
	char s[] = "a%2Fb%20+%C3%A4", bad1[] = "%", bad2[] = "%4", bad3[] = "%zz", bad4[] = "%00";

	url_encode(&b, "/a b+~_.-\xc3\xa4", 0);
	ck_assert_str_eq(buf_cstr(&b), "%2Fa%20b%2B~_.-%C3%A4");
	buf_reset(&b);
	url_encode(&b, "/a$", 1);
	ck_assert_str_eq(buf_cstr(&b), "/a%24");
	buf_release(&b);
	ck_assert_int_eq(url_decode(s), 0);
	ck_assert_str_eq(s, "a/b +\xc3\xa4");
	ck_assert(url_decode(bad1) && url_decode(bad2) && url_decode(bad3) && url_decode(bad4));
}
END_TEST

static int open_code(const char *url)
{
	struct backend_url u;
	int r = backend_url_parse(url, &u, NULL);

	if (!r)
		backend_url_release(&u);
	return r;
}

START_TEST(urls)
{
	struct backend_url a, b;
	char *pa, *pb;

	ck_assert_int_eq(backend_url_parse("s3://bkt/p/", &a, NULL), 0);
	ck_assert_str_eq(a.provider, "s3:s3.amazonaws.com");
	ck_assert_int_eq(
	    backend_url_parse("s3://bkt//p?region=eu-west-1&storage-class=STANDARD_IA", &b, NULL),
	    0);
	pa = backend_url_place(&a), pb = backend_url_place(&b);
	ck_assert_str_eq(pa, pb);
	free(pa), free(pb);
	backend_url_release(&a), backend_url_release(&b);
	ck_assert_int_eq(open_code("s3://bkt?endpoint=http://127.0.0.1:1"), 0);
	ck_assert_int_eq(open_code("s3://bkt?endpoint=http://example.org"), -EINVAL);
	ck_assert_int_eq(open_code("s3://bkt?endpoint=http://example.org&insecure=1"), 0);
	ck_assert_int_eq(open_code("s3://bkt?insecure=maybe"), -EINVAL);
	ck_assert_int_eq(open_code("s3://bkt?style=other"), -EINVAL);
	ck_assert_int_eq(open_code("s3://BKT?style=virtual"), -EINVAL);
	ck_assert_int_eq(open_code("s3://b?region=x"), -EINVAL);
	ck_assert_int_eq(open_code("s3://bkt?region=X/y"), -EINVAL);
	ck_assert_int_eq(open_code("s3://bkt?storage-class=low"), -EINVAL);
}
END_TEST

/* -- SigV4: the examples of "Authenticating Requests: Using the Authorization Header", Amazon S3
 * API Reference ---------------------------------------------------------------------------- */

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void check_sign(const char *method, const char *path, const char *query, const char *hash,
		       struct s3_header *extra, int n, const char *signature)
{
	struct s3_signer s = { .dialect = S3_AWS4,
			       .access_key = "AKIAIOSFODNN7EXAMPLE",
			       .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
			       .region = "us-east-1" };
	struct s3_header h[8] = { { "x-amz-date", "20130524T000000Z" },
				  { "host", "examplebucket.s3.amazonaws.com" },
				  { "x-amz-content-sha256", hash } };
	struct s3_sign_req r = { .method = method,
				 .path = path,
				 .query = query,
				 .headers = h,
				 .nheaders = 3 + n,
				 .payload = hash,
				 .date = "20130524T000000Z" };
	struct buf out = { 0 };
	const char *got;

	for (int i = 0; i < n; i++)
		h[3 + i] = extra[i];
	for (int twice = 0; twice < 2; twice++) { /* the second time with the cached key */
		buf_reset(&out);
		ck_assert_int_eq(s3_sign(&s, &r, &out), 0);
		got = strstr(buf_cstr(&out), ",Signature=");
		ck_assert_ptr_nonnull(got);
		ck_assert_str_eq(got + 11, signature);
	}
	ck_assert_ptr_nonnull(strstr(buf_cstr(&out),
				     "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"
				     "20130524/us-east-1/s3/aws4_request,SignedHeaders="));
	buf_release(&out);
}

START_TEST(sign_aws)
{
	struct s3_header range[] = { { "range", "bytes=0-9" } };
	struct s3_header put[] = { { "date", "Fri, 24 May 2013 00:00:00 GMT" },
				   { "x-amz-storage-class", "REDUCED_REDUNDANCY" } };

	check_sign("GET", "/test.txt", "", EMPTY, range, 1,
		   "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
	check_sign("PUT", "/test%24file.text", "",
		   "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072", put, 2,
		   "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
	check_sign("GET", "/", "lifecycle=", EMPTY, NULL, 0,
		   "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
	check_sign("GET", "/", "max-keys=2&prefix=J", EMPTY, NULL, 0,
		   "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}
END_TEST

START_TEST(sign_parts)
{
	struct iovec body[] = { { (char *)"Welcome to ", 11 }, { (char *)"Amazon S3.", 10 } };
	struct iovec nine = { (char *)"123456789", 9 };
	char hex[65], date[17], crc[9];

	/* the PUT example's body */
	ck_assert_int_eq(s3_payload_hash(body, 2, hex), 0);
	ck_assert_str_eq(hex, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
	ck_assert_int_eq(s3_payload_hash(NULL, 0, hex), 0);
	ck_assert_str_eq(hex, EMPTY);
	s3_date(1369353600, date);
	ck_assert_str_eq(date, "20130524T000000Z");
	/* CRC-32C of "123456789" is e3069283 */
	ck_assert_int_eq(s3_checksum(&nine, 1, crc), 0);
	ck_assert_str_eq(crc, "4waSgw==");
}
END_TEST

/* Google's dialect; the signature is Python's hmac over the same text. */
START_TEST(sign_goog)
{
	struct s3_signer s = { .dialect = S3_GOOG4,
			       .access_key = "GOOG1EXAMPLE",
			       .secret = "bGoa+V7g/yqDXvKRqq+JTFn4uQZbPiQJo4pf9RzJ",
			       .region = "auto" };
	struct s3_header h[] = { { "x-goog-if-generation-match", "0" },
				 { "host", "storage.googleapis.com" },
				 { "x-goog-date", "20201103T120000Z" },
				 { "x-goog-content-sha256", S3_UNSIGNED } };
	struct s3_sign_req r = { .method = "PUT",
				 .path = "/bkt/a%20b",
				 .query = "",
				 .headers = h,
				 .nheaders = 4,
				 .payload = S3_UNSIGNED,
				 .date = "20201103T120000Z" };
	struct buf out = { 0 };

	ck_assert_int_eq(s3_sign(&s, &r, &out), 0);
	ck_assert_str_eq(
	    buf_cstr(&out),
	    "GOOG4-HMAC-SHA256 Credential=GOOG1EXAMPLE/20201103/auto/storage/goog4_request,"
	    "SignedHeaders=host;x-goog-content-sha256;x-goog-date;x-goog-if-generation-match,"
	    "Signature=ae2bad2a2c434322fde8923c2f31a82fa6ae4c2056791e520352409db515d42a");
	buf_release(&out);
}
END_TEST

#define AZURITE_KEY                                                                                \
	"Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

/* SharedKey; the signatures are Python's hmac over the text that Microsoft's description gives. */
START_TEST(sign_azure)
{
	struct azure_pair h[] = { { "x-ms-version", "2021-12-02" },
				  { "x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT" },
				  { "x-ms-blob-type", "BlockBlob" } };
	struct azure_pair q[] = { { "restype", "container" },
				  { "prefix", "a/b" },
				  { "comp", "list" },
				  { "maxresults", "1000" } };
	struct azure_sign_req put = { .account = "acc",
				      .method = "PUT",
				      .content_length = 11,
				      .content_type = "application/octet-stream",
				      .if_none_match = "*",
				      .range = "",
				      .headers = h,
				      .nheaders = 3,
				      .path = "/con/p/k%20x" };
	struct azure_sign_req list = { .account = "acc",
				       .method = "GET",
				       .content_type = "",
				       .if_none_match = "",
				       .range = "",
				       .headers = h,
				       .nheaders = 2,
				       .path = "/con",
				       .query = q,
				       .nquery = 4 };
	struct buf out = { 0 };
	char date[64];

	ck_assert_int_eq(azure_sign(AZURITE_KEY, &put, &out), 0);
	ck_assert_str_eq(buf_cstr(&out),
			 "SharedKey acc:HFjxRNQLCt99oCQPWrxgskTYFN/uzJHvQtCO0TOucpY=");
	buf_reset(&out);
	h[0] = (struct azure_pair){ "x-ms-version", "2021-12-02" };
	h[1] = (struct azure_pair){ "x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT" };
	ck_assert_int_eq(azure_sign(AZURITE_KEY, &list, &out), 0);
	ck_assert_str_eq(buf_cstr(&out),
			 "SharedKey acc:zdZOvtaTrJXPl/3Zbc/L3suwXiVQoHR36c6CvP/2Fqg=");
	ck_assert_int_eq(azure_sign("not base64!", &list, &out), -EINVAL);
	ck_assert_int_eq(azure_sign("", &list, &out), -EINVAL);
	buf_release(&out);
	azure_date(784111777, date);
	ck_assert_str_eq(date, "Sun, 06 Nov 1994 08:49:37 GMT");
}
END_TEST

START_TEST(google_tokens)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"access_token\":\"a\"}",
		"{\"access_token\":\"\",\"expires_in\":5}",
		"{\"access_token\":\"a b\",\"expires_in\":5}",
		"{\"access_token\":\"a\\r\\nX: y\",\"expires_in\":5}",
		"{\"access_token\":\"a\",\"expires_in\":0}",
		"{\"access_token\":\"a\",\"expires_in\":5,\"token_type\":\"MAC\"}",
	};
	static const char *const accounts[] = {
		"",
		"{}",
		"{\"type\":\"external_account\"}",
		"{\"type\":\"service_account\"}",
		"{\"type\":\"service_account\",\"client_email\":\"a\",\"private_key\":\"no\"}",
		"{\"type\":\"authorized_user\",\"client_id\":\"a\"}",
		/* its token_uri would send secrets in clear */
		"{\"type\":\"authorized_user\",\"client_id\":\"a\",\"client_secret\":\"b\","
		"\"refresh_token\":\"c\",\"token_uri\":\"http://example.org/token\"}",
	};
	static const char user[] =
	    "{\"type\":\"authorized_user\",\"client_id\":\"a&b\",\"client_secret\":\"b\","
	    "\"refresh_token\":\"1//c\"}";
	struct gcs_account a;
	struct buf form = { 0 };
	char *token, words[300];
	int64_t seconds;
	struct err e;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(gcs_token_parse(bad[i], strlen(bad[i]), &token, &seconds) == -EBADMSG,
			      "%s", bad[i]);
	ck_assert_int_eq(gcs_token_parse("{\"access_token\":\"ya29.x\",\"expires_in\":999999}", 45,
					 &token, &seconds),
			 0);
	ck_assert_str_eq(token, "ya29.x");
	ck_assert_int_eq(seconds, 86400);
	free(token);
	for (size_t i = 0; i < ARRAY_LEN(accounts); i++) {
		ck_assert_int_eq(gcs_account_parse(accounts[i], strlen(accounts[i]), "f", &a, &e),
				 -EACCES);
		ck_assert_int_eq(strncmp(e.text, "f", 1), 0);
	}
	ck_assert_int_eq(gcs_account_parse(user, strlen(user), "f", &a, &e), 0);
	ck_assert_int_eq(gcs_token_form(&a, 0, &form), 0);
	ck_assert_str_eq(buf_cstr(&form),
			 "grant_type=refresh_token&client_id=a%26b&client_secret=b&"
			 "refresh_token=1%2F%2Fc");
	buf_release(&form);
	gcs_account_release(&a);
	gcs_token_error("{\"error\":\"invalid_grant\",\"error_description\":\"a\\nb\"}", 52, words);
	ck_assert_str_eq(words, "invalid_grant: a b");
}
END_TEST

START_TEST(azure_urls)
{
	struct backend_url u;
	char *place;

	ck_assert_int_eq(backend_url_parse("azure://acc1/con/p", &u, NULL), 0);
	ck_assert_str_eq(u.provider, "azure:blob.core.windows.net"); /* accounts share a provider */
	place = backend_url_place(&u);
	ck_assert_str_eq(place, "azure:acc1.blob.core.windows.net/con/p");
	free(place);
	backend_url_release(&u);
	ck_assert_int_eq(
	    backend_url_parse("azure://acc1/con?endpoint=http://127.0.0.1:1", &u, NULL), 0);
	place = backend_url_place(&u);
	ck_assert_str_eq(place, "azure:127.0.0.1:1/acc1/con/");
	free(place);
	backend_url_release(&u);
	ck_assert_int_eq(open_code("azure://acc1"), -EINVAL);
	ck_assert_int_eq(open_code("azure://ACC/con"), -EINVAL);
	ck_assert_int_eq(open_code("azure://acc1/con?tier=Archive"), -EINVAL);
	ck_assert_int_eq(open_code("azure://acc1/con?tier=Cool"), 0);
	ck_assert_int_eq(open_code("gs://bkt/p?storage-class=NEARLINE"), 0);
	ck_assert_int_eq(open_code("gs://Bkt"), -EINVAL);
	ck_assert_int_eq(open_code("gs://bkt?region=x"), -EINVAL);
}
END_TEST

/* -- listings ------------------------------------------------------------------------------- */

START_TEST(list_s3)
{
	static const char good[] =
	    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult "
	    "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
	    "<Name>bkt</Name><Prefix>p/</Prefix><MaxKeys>1000</MaxKeys><EncodingType>url</"
	    "EncodingType>"
	    "<Contents><Key>p/s%2Fb</Key><LastModified>x</LastModified><Size>4294967296</"
	    "Size><Owner><ID>1</ID></Owner></Contents>"
	    "<Contents><Size>0</Size><Key>p/a.1</Key></Contents>"
	    "<Contents><Key>p/.skyflok/drive</Key><Size>3</Size></Contents>"
	    "<Contents><Key>q/a</Key><Size>3</Size></Contents>"
	    "<Contents><Key>p/a%0Ab</Key><Size>3</Size></Contents>"
	    "<NextContinuationToken>1/t+x==</NextContinuationToken><IsTruncated>true</"
	    "IsTruncated></ListBucketResult>";
	static const char *const bad[] = {
		"",
		"<html></html>",
		"<Error><Code>InternalError</Code></Error>",
		"not xml",
		"<ListBucketResult><Contents><Key>p/a</Key></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
		"<ListBucketResult><Contents><Key>p/a</Key><Size>-1</Size></Contents></"
		"ListBucketResult>",
		"<ListBucketResult><Contents><Key>p/a</Key><Size>1</Size></Contents>", /* cut */
		"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
		"<ListBucketResult><Contents><Key>p/a</Key><Size>1</Size></"
		"Contents><Contents><Key>p/a</Key>"
		"<Size>1</Size></Contents></ListBucketResult>",
		"<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult></ListBucketResult>",
	};
	struct page p;

	ck_assert_int_eq(s3_list_parse(good, sizeof(good) - 1, "p/", &p), 0);
	ck_assert_uint_eq(p.n, 2);
	ck_assert_str_eq(p.entries[0].key, "a.1");
	ck_assert_str_eq(p.entries[1].key, "s/b");
	ck_assert_uint_eq(p.entries[1].size, 4294967296);
	ck_assert_uint_eq(p.foreign, 3);
	ck_assert_str_eq(p.next, "1/t+x==");
	page_release(&p);
	ck_assert_int_eq(s3_list_parse("<ListBucketResult/>", 19, "", &p), 0);
	ck_assert(p.n == 0 && !p.entries && !p.next);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(s3_list_parse(bad[i], strlen(bad[i]), "p/", &p) == -EBADMSG, "%s",
			      bad[i]);
}
END_TEST

START_TEST(list_azure)
{
	static const char good[] =
	    "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults "
	    "ServiceEndpoint=\"x\" ContainerName=\"c\">"
	    "<Prefix>p/</Prefix><Blobs><Blob><Name>p/b</Name><Properties><Content-Length>7</"
	    "Content-Length></Properties></Blob>"
	    "<Blob><Name>p/a</Name><Properties><Content-Length>0</Content-Length></Properties></"
	    "Blob>"
	    "<Blob><Name>p/dir</Name><Properties><ResourceType>directory</"
	    "ResourceType><Content-Length>0</Content-Length>"
	    "</Properties></Blob><Blob><Name "
	    "Encoded=\"true\">p/%ff</Name><Properties><Content-Length>1</Content-Length>"
	    "</Properties></Blob></Blobs><NextMarker>2!x</NextMarker></EnumerationResults>";
	static const char *const bad[] = {
		"<EnumerationResults/>",
		"<Error><Code>x</Code></Error>",
		"<EnumerationResults><Blobs><Blob><Name>a</Name></Blob></Blobs></"
		"EnumerationResults>",
	};
	struct page p;

	ck_assert_int_eq(azure_list_parse(good, sizeof(good) - 1, "p/", &p), 0);
	ck_assert_uint_eq(p.n, 2);
	ck_assert_str_eq(p.entries[0].key, "a");
	ck_assert_uint_eq(p.entries[1].size, 7);
	ck_assert_uint_eq(p.foreign, 1);
	ck_assert_str_eq(p.next, "2!x");
	page_release(&p);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_int_eq(azure_list_parse(bad[i], strlen(bad[i]), "", &p), -EBADMSG);
}
END_TEST

START_TEST(list_gcs)
{
	static const char good[] =
	    "{\"items\":[{\"name\":\"p/b\",\"size\":\"12\"},{\"name\":\"p/a/c\",\"size\":\"0\"},"
	    "{\"name\":\"p/\\u00e4\",\"size\":\"1\"}],\"nextPageToken\":\"abc\"}";
	static const char *const bad[] = { "",
					   "[]",
					   "{",
					   "{\"items\":{}}",
					   "{\"items\":[{\"name\":\"a\"}]}",
					   "{\"items\":[{\"name\":\"a\",\"size\":1}]}",
					   "{\"error\":{\"code\":500}}",
					   "{\"nextPageToken\":5}",
					   "{\"items\":[{\"name\":\"a\",\"size\":\"-1\"}]}" };
	struct page p;

	ck_assert_int_eq(gcs_list_parse(good, sizeof(good) - 1, "p/", &p), 0);
	ck_assert_uint_eq(p.n, 2);
	ck_assert_str_eq(p.entries[0].key, "a/c");
	ck_assert_uint_eq(p.entries[1].size, 12);
	ck_assert_uint_eq(p.foreign, 1);
	ck_assert_str_eq(p.next, "abc");
	page_release(&p);
	ck_assert_int_eq(gcs_list_parse("{}", 2, "", &p), 0);
	page_release(&p);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(gcs_list_parse(bad[i], strlen(bad[i]), "", &p) == -EBADMSG, "%s",
			      bad[i]);
}
END_TEST

START_TEST(xml_limits)
{
	struct buf b = { 0 };
	char out[8];

	ck_assert_int_eq(xml_value("<a><b>12345678901</b></a>", 25, "a/b", out, sizeof(out)), 0);
	ck_assert_str_eq(out, "1234567");
	ck_assert_int_eq(xml_value("<a><c/></a>", 11, "a/b", out, sizeof(out)), -ENOENT);
	for (int i = 0; i < 20; i++)
		buf_printf(&b, "<a>");
	for (int i = 0; i < 20; i++)
		buf_printf(&b, "</a>");
	ck_assert_int_eq(xml_value((char *)b.p, b.len, "x", out, sizeof(out)), -EBADMSG);
	buf_reset(&b);
	buf_printf(&b, "<a>%09000d</a>", 1);
	ck_assert_int_eq(xml_value((char *)b.p, b.len, "x", out, sizeof(out)), -EBADMSG);
	buf_release(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("clouds");
	TCase *t = tcase_create("parsers");
	SRunner *r;
	int failed;

	tcase_add_test(t, dates);
	tcase_add_test(t, ranges);
	tcase_add_test(t, retry_after);
	tcase_add_test(t, endpoints);
	tcase_add_test(t, paths);
	tcase_add_test(t, percent);
	tcase_add_test(t, urls);
	tcase_add_test(t, sign_aws);
	tcase_add_test(t, sign_parts);
	tcase_add_test(t, sign_goog);
	tcase_add_test(t, sign_azure);
	tcase_add_test(t, google_tokens);
	tcase_add_test(t, azure_urls);
	tcase_add_test(t, list_s3);
	tcase_add_test(t, list_azure);
	tcase_add_test(t, list_gcs);
	tcase_add_test(t, xml_limits);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
