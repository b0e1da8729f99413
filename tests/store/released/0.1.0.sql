BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE nas_edge_audits (
	id INTEGER NOT NULL, 
	study VARCHAR(200) NOT NULL, 
	created VARCHAR(32) NOT NULL, 
	record TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "nas_edge_audits" VALUES(1,'tiny','2026-11-23T16:22:59+00:00','{"finished": 5, "profile": "67024d8c02e3ccf7", "stated_median": 0.01, "stated_q90": 0.02, "stated_networks": 8, "sample": [{"trial": 4, "predicted_ms": 0.08818000000000001, "measured_ms": 0.08818000000000001, "unstable_because": null}], "front": [{"trial": 3, "predicted_ms": 0.23382000000000003, "measured_ms": 0.23382000000000003, "unstable_because": null}, {"trial": 1, "predicted_ms": 0.18387, "measured_ms": 0.18387, "unstable_because": null}, {"trial": 0, "predicted_ms": 0.18259, "measured_ms": 0.18259, "unstable_because": null}, {"trial": 2, "predicted_ms": 0.08354, "measured_ms": 0.08354, "unstable_because": null}]}');
CREATE TABLE nas_edge_calibrations (
	id INTEGER NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	domain VARCHAR(200) NOT NULL, 
	created VARCHAR(32) NOT NULL, 
	profile TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "nas_edge_calibrations" VALUES(1,'007a76883c871aca','tiny1/1x8/','2026-11-23T16:22:48+00:00','{"format": "nas_edge latency profile", "version": 2, "target": "bench", "domain": "tiny1/1x8/", "fingerprint": {"cpu": "bench", "threads": 1}, "model": {"base_ms": 0.1, "base_shift_ms": 0.0, "prices": {}, "shifts": {}, "shapes": {}, "network": null}, "error": {"median": 0.01, "q90": 0.02, "within5": 1.0, "within10": 1.0, "networks": 8}, "low_ms": 0.01, "high_ms": 10.0, "reference_ms": 0.1}');
CREATE TABLE nas_edge_finals (
	study VARCHAR(200) NOT NULL, 
	trial INTEGER NOT NULL, 
	record TEXT NOT NULL, 
	PRIMARY KEY (study, trial)
);
INSERT INTO "nas_edge_finals" VALUES('tiny',3,'{"final": false, "retrained": false, "accuracy": 0.4623955431754875, "test_accuracy": 0.42896935933147634, "test_images": 359, "predicted_ms": 0.23382000000000003, "predicted_low_ms": 0.21043800000000004, "predicted_high_ms": 0.25720200000000004, "size_bytes": 23382, "macs": 20532, "parameters": 5478, "techniques": "none", "onnx_sha256": "73d822c5681457979506b5e3a0d5e53beb3cd7ffa79ff36403b33aafa3604281"}');
INSERT INTO "nas_edge_finals" VALUES('tiny',1,'{"final": false, "retrained": false, "accuracy": 0.34818941504178275, "test_accuracy": 0.3649025069637883, "test_images": 359, "predicted_ms": 0.18387, "predicted_low_ms": 0.16548300000000002, "predicted_high_ms": 0.20225700000000002, "size_bytes": 18387, "macs": 16492, "parameters": 4230, "techniques": "none", "onnx_sha256": "7d513f39ad00496f0a896fa2c387ac87df73cb62cacb8af0709eb65287793d0b"}');
INSERT INTO "nas_edge_finals" VALUES('tiny',0,'{"final": false, "retrained": false, "accuracy": 0.3398328690807799, "test_accuracy": 0.3370473537604457, "test_images": 359, "predicted_ms": 0.18259, "predicted_low_ms": 0.164331, "predicted_high_ms": 0.20084900000000003, "size_bytes": 18259, "macs": 17072, "parameters": 4198, "techniques": "none", "onnx_sha256": "f476f1987270c4c6d14e978a4db85a85b495b54fb242d7cff50b1e1b4cc544e7"}');
INSERT INTO "nas_edge_finals" VALUES('tiny',2,'{"final": false, "retrained": false, "accuracy": 0.28133704735376047, "test_accuracy": 0.2590529247910863, "test_images": 359, "predicted_ms": 0.08354, "predicted_low_ms": 0.075186, "predicted_high_ms": 0.09189400000000002, "size_bytes": 8354, "macs": 6952, "parameters": 1722, "techniques": "none", "onnx_sha256": "52b07acd556d70ca581e988797999ca84fa583fcd0d1c743ff2d0f05a1f5c61e"}');
CREATE TABLE nas_edge_measurements (
	onnx_sha256 VARCHAR(64) NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	created VARCHAR(32) NOT NULL, 
	record TEXT NOT NULL, 
	PRIMARY KEY (onnx_sha256, fingerprint)
);
INSERT INTO "nas_edge_measurements" VALUES('73d822c5681457979506b5e3a0d5e53beb3cd7ffa79ff36403b33aafa3604281','007a76883c871aca','2026-11-23T16:22:59+00:00','{"p50_ms": 0.23382000000000003, "p90_ms": 0.25720200000000004, "low_ms": 0.21043800000000004, "high_ms": 0.25720200000000004, "samples": 10, "target": "bench", "fingerprint": {"cpu": "bench", "threads": 1}, "unstable_because": null, "visits": null, "processes": null, "speed": null}');
INSERT INTO "nas_edge_measurements" VALUES('7d513f39ad00496f0a896fa2c387ac87df73cb62cacb8af0709eb65287793d0b','007a76883c871aca','2026-11-23T16:22:59+00:00','{"p50_ms": 0.18387, "p90_ms": 0.20225700000000002, "low_ms": 0.16548300000000002, "high_ms": 0.20225700000000002, "samples": 10, "target": "bench", "fingerprint": {"cpu": "bench", "threads": 1}, "unstable_because": null, "visits": null, "processes": null, "speed": null}');
INSERT INTO "nas_edge_measurements" VALUES('f476f1987270c4c6d14e978a4db85a85b495b54fb242d7cff50b1e1b4cc544e7','007a76883c871aca','2026-11-23T16:22:59+00:00','{"p50_ms": 0.18259, "p90_ms": 0.20084900000000003, "low_ms": 0.164331, "high_ms": 0.20084900000000003, "samples": 10, "target": "bench", "fingerprint": {"cpu": "bench", "threads": 1}, "unstable_because": null, "visits": null, "processes": null, "speed": null}');
INSERT INTO "nas_edge_measurements" VALUES('52b07acd556d70ca581e988797999ca84fa583fcd0d1c743ff2d0f05a1f5c61e','007a76883c871aca','2026-11-23T16:22:59+00:00','{"p50_ms": 0.08354, "p90_ms": 0.09189400000000002, "low_ms": 0.075186, "high_ms": 0.09189400000000002, "samples": 10, "target": "bench", "fingerprint": {"cpu": "bench", "threads": 1}, "unstable_because": null, "visits": null, "processes": null, "speed": null}');
INSERT INTO "nas_edge_measurements" VALUES('1e04c55f74b1f7dbc123a84acc8b833da14659c856d45606fd148dc0e762c3e0','007a76883c871aca','2026-11-23T16:22:59+00:00','{"p50_ms": 0.08818000000000001, "p90_ms": 0.09699800000000001, "low_ms": 0.07936200000000002, "high_ms": 0.09699800000000001, "samples": 10, "target": "bench", "fingerprint": {"cpu": "bench", "threads": 1}, "unstable_because": null, "visits": null, "processes": null, "speed": null}');
CREATE TABLE nas_edge_meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "nas_edge_meta" VALUES('schema_version','1');
CREATE TABLE nas_edge_predictions (
	onnx_sha256 VARCHAR(64) NOT NULL, 
	fingerprint VARCHAR(64) NOT NULL, 
	profile VARCHAR(64) NOT NULL, 
	created VARCHAR(32) NOT NULL, 
	record TEXT NOT NULL, 
	PRIMARY KEY (onnx_sha256, fingerprint, profile)
);
INSERT INTO "nas_edge_predictions" VALUES('f476f1987270c4c6d14e978a4db85a85b495b54fb242d7cff50b1e1b4cc544e7','007a76883c871aca','67024d8c02e3ccf7','2026-11-23T16:22:55+00:00','{"ms": 0.18259, "low_ms": 0.164331, "high_ms": 0.20084900000000003, "unsupported": [], "outside": null}');
INSERT INTO "nas_edge_predictions" VALUES('7d513f39ad00496f0a896fa2c387ac87df73cb62cacb8af0709eb65287793d0b','007a76883c871aca','67024d8c02e3ccf7','2026-11-23T16:22:58+00:00','{"ms": 0.18387, "low_ms": 0.16548300000000002, "high_ms": 0.20225700000000002, "unsupported": [], "outside": null}');
INSERT INTO "nas_edge_predictions" VALUES('52b07acd556d70ca581e988797999ca84fa583fcd0d1c743ff2d0f05a1f5c61e','007a76883c871aca','67024d8c02e3ccf7','2026-11-23T16:22:58+00:00','{"ms": 0.08354, "low_ms": 0.075186, "high_ms": 0.09189400000000002, "unsupported": [], "outside": null}');
INSERT INTO "nas_edge_predictions" VALUES('73d822c5681457979506b5e3a0d5e53beb3cd7ffa79ff36403b33aafa3604281','007a76883c871aca','67024d8c02e3ccf7','2026-11-23T16:22:58+00:00','{"ms": 0.23382000000000003, "low_ms": 0.21043800000000004, "high_ms": 0.25720200000000004, "unsupported": [], "outside": null}');
INSERT INTO "nas_edge_predictions" VALUES('1e04c55f74b1f7dbc123a84acc8b833da14659c856d45606fd148dc0e762c3e0','007a76883c871aca','67024d8c02e3ccf7','2026-11-23T16:22:59+00:00','{"ms": 0.08818000000000001, "low_ms": 0.07936200000000002, "high_ms": 0.09699800000000001, "unsupported": [], "outside": null}');
CREATE TABLE nas_edge_turns (
	study VARCHAR(200) NOT NULL, 
	ticket INTEGER NOT NULL, 
	PRIMARY KEY (study)
);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'tiny');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',1,1);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["accuracy", "latency_ms"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'plugins','{"search space tiny": 1}');
INSERT INTO "study_user_attributes" VALUES(2,1,'data','{"name": "digits", "fingerprint": "a6632c5442761d98", "classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "channels": 1, "resolution": 8, "preprocessing": "Grey levels 0..16 of sklearn.datasets.load_digits, times 255/16 and rounded to 0..255. The model takes float32 [batch, 1, 8, 8], each pixel value divided by 255; normalisation is inside the model.", "images": [128, 359, 359]}');
INSERT INTO "study_user_attributes" VALUES(3,1,'target','{"name": "bench", "fingerprint": "007a76883c871aca"}');
INSERT INTO "study_user_attributes" VALUES(4,1,'artifacts','"a917e34e515741f0a265be2a1870e39d"');
INSERT INTO "study_user_attributes" VALUES(5,1,'folder','"/tmp/tmpxztvhhda/run"');
INSERT INTO "study_user_attributes" VALUES(6,1,'config','{"study": "tiny", "space": "tiny", "model": null, "goals": null, "data": "digits", "target": "bench", "trials": 5, "timeout": null, "until": null, "objectives": ["accuracy", "latency_ms"], "max_latency_ms": null, "techniques": [], "set": {}, "gate": true, "max_drop": 5.0, "latency_first": true, "zero_cost": false, "early_stopping": false, "supernet": false, "teacher": "largest", "sampler": "random", "baseline": null, "baseline_seeds": 1, "artifacts": null, "workers": 1, "seed": 0, "sampler_seed": null, "train_images": 128, "calibration_seconds": 60.0, "audit_trials": 2, "audit_every": 50, "train": {"samples": 128, "recovery_share": 0.4, "finetune_share": 0.0, "teacher_budget": 1.0, "supernet_budget": 20.0, "supernet_share": 0.2, "ranking_sample": 6, "final_budget": 0.0, "finalists": null, "batch_size": 64, "learning_rate": 0.003, "weight_decay": 0.02, "label_smoothing": 0.1, "precision": "float32", "device": "auto"}}');
INSERT INTO "study_user_attributes" VALUES(7,1,'prepared','true');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_heartbeats" VALUES(1,1,'2026-11-23 16:22:48');
INSERT INTO "trial_heartbeats" VALUES(2,2,'2026-11-23 16:22:55');
INSERT INTO "trial_heartbeats" VALUES(3,3,'2026-11-23 16:22:58');
INSERT INTO "trial_heartbeats" VALUES(4,4,'2026-11-23 16:22:58');
INSERT INTO "trial_heartbeats" VALUES(5,5,'2026-11-23 16:22:58');
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'tiny.width',12.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 4, "high": 19}}');
INSERT INTO "trial_params" VALUES(2,1,'tiny.features',26.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 8, "high": 39}}');
INSERT INTO "trial_params" VALUES(3,1,'tiny.kernel',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 5]}}');
INSERT INTO "trial_params" VALUES(4,2,'tiny.width',19.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 4, "high": 19}}');
INSERT INTO "trial_params" VALUES(5,2,'tiny.features',19.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 8, "high": 39}}');
INSERT INTO "trial_params" VALUES(6,2,'tiny.kernel',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 5]}}');
INSERT INTO "trial_params" VALUES(7,3,'tiny.width',13.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 4, "high": 19}}');
INSERT INTO "trial_params" VALUES(8,3,'tiny.features',10.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 8, "high": 39}}');
INSERT INTO "trial_params" VALUES(9,3,'tiny.kernel',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 5]}}');
INSERT INTO "trial_params" VALUES(10,4,'tiny.width',11.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 4, "high": 19}}');
INSERT INTO "trial_params" VALUES(11,4,'tiny.features',37.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 8, "high": 39}}');
INSERT INTO "trial_params" VALUES(12,4,'tiny.kernel',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 5]}}');
INSERT INTO "trial_params" VALUES(13,5,'tiny.width',11.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 4, "high": 19}}');
INSERT INTO "trial_params" VALUES(14,5,'tiny.features',11.0,'{"name": "IntDistribution", "attributes": {"log": false, "step": 1, "low": 8, "high": 39}}');
INSERT INTO "trial_params" VALUES(15,5,'tiny.kernel',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [3, 5]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(2,1,'artifacts:7cbe0f74-2af2-4fc3-9498-0c73c41c9e9d','"{\"artifact_id\": \"7cbe0f74-2af2-4fc3-9498-0c73c41c9e9d\", \"filename\": \"model.onnx\", \"mimetype\": \"application/octet-stream\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(3,1,'artifacts:ee7d4021-4f0c-4e6f-9263-e2590e76547f','"{\"artifact_id\": \"ee7d4021-4f0c-4e6f-9263-e2590e76547f\", \"filename\": \"recipe.json\", \"mimetype\": \"application/json\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(4,2,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(5,2,'artifacts:ccc71706-b119-404b-bef0-27f5c25c8274','"{\"artifact_id\": \"ccc71706-b119-404b-bef0-27f5c25c8274\", \"filename\": \"model.onnx\", \"mimetype\": \"application/octet-stream\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(6,2,'artifacts:17da1208-084a-4233-93df-9486e3378ab4','"{\"artifact_id\": \"17da1208-084a-4233-93df-9486e3378ab4\", \"filename\": \"recipe.json\", \"mimetype\": \"application/json\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(7,3,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(8,3,'artifacts:197b8833-8624-4ec2-b41a-25f758f7f6e8','"{\"artifact_id\": \"197b8833-8624-4ec2-b41a-25f758f7f6e8\", \"filename\": \"model.onnx\", \"mimetype\": \"application/octet-stream\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(9,3,'artifacts:5becd926-ef02-4b00-a9a7-0cb9ccf4e6a5','"{\"artifact_id\": \"5becd926-ef02-4b00-a9a7-0cb9ccf4e6a5\", \"filename\": \"recipe.json\", \"mimetype\": \"application/json\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(10,4,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(11,4,'artifacts:823d7907-3d2e-4037-a8e4-e417c3865834','"{\"artifact_id\": \"823d7907-3d2e-4037-a8e4-e417c3865834\", \"filename\": \"model.onnx\", \"mimetype\": \"application/octet-stream\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(12,4,'artifacts:92a5df75-b154-488c-b334-192902e448c0','"{\"artifact_id\": \"92a5df75-b154-488c-b334-192902e448c0\", \"filename\": \"recipe.json\", \"mimetype\": \"application/json\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(13,5,'fixed_params','{}');
INSERT INTO "trial_system_attributes" VALUES(14,5,'artifacts:0e407b00-2772-48a9-8478-2472d3084c9e','"{\"artifact_id\": \"0e407b00-2772-48a9-8478-2472d3084c9e\", \"filename\": \"model.onnx\", \"mimetype\": \"application/octet-stream\", \"encoding\": null}"');
INSERT INTO "trial_system_attributes" VALUES(15,5,'artifacts:53c798b1-03d7-4326-90cf-7a4543e359f1','"{\"artifact_id\": \"53c798b1-03d7-4326-90cf-7a4543e359f1\", \"filename\": \"recipe.json\", \"mimetype\": \"application/json\", \"encoding\": null}"');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'worker','{"host": "vm", "machine": "3d1219c7 pid:[4026531836]", "pid": 10044, "started": "359369"}');
INSERT INTO "trial_user_attributes" VALUES(2,1,'key','"d74272699223d4a4"');
INSERT INTO "trial_user_attributes" VALUES(3,1,'techniques','"none"');
INSERT INTO "trial_user_attributes" VALUES(4,1,'accuracy','"33.98%"');
INSERT INTO "trial_user_attributes" VALUES(5,1,'latency','"0.183 ms (0.164 to 0.201, predicted)"');
INSERT INTO "trial_user_attributes" VALUES(6,1,'latency_source','"predicted"');
INSERT INTO "trial_user_attributes" VALUES(7,1,'size_bytes','18259');
INSERT INTO "trial_user_attributes" VALUES(8,1,'onnx_sha256','"f476f1987270c4c6d14e978a4db85a85b495b54fb242d7cff50b1e1b4cc544e7"');
INSERT INTO "trial_user_attributes" VALUES(9,2,'worker','{"host": "vm", "machine": "3d1219c7 pid:[4026531836]", "pid": 10044, "started": "359369"}');
INSERT INTO "trial_user_attributes" VALUES(10,2,'key','"11b8a4c021fdde75"');
INSERT INTO "trial_user_attributes" VALUES(11,2,'techniques','"none"');
INSERT INTO "trial_user_attributes" VALUES(12,2,'accuracy','"34.82%"');
INSERT INTO "trial_user_attributes" VALUES(13,2,'latency','"0.184 ms (0.165 to 0.202, predicted)"');
INSERT INTO "trial_user_attributes" VALUES(14,2,'latency_source','"predicted"');
INSERT INTO "trial_user_attributes" VALUES(15,2,'size_bytes','18387');
INSERT INTO "trial_user_attributes" VALUES(16,2,'onnx_sha256','"7d513f39ad00496f0a896fa2c387ac87df73cb62cacb8af0709eb65287793d0b"');
INSERT INTO "trial_user_attributes" VALUES(17,3,'worker','{"host": "vm", "machine": "3d1219c7 pid:[4026531836]", "pid": 10044, "started": "359369"}');
INSERT INTO "trial_user_attributes" VALUES(18,3,'key','"3f9257de92402a61"');
INSERT INTO "trial_user_attributes" VALUES(19,3,'techniques','"none"');
INSERT INTO "trial_user_attributes" VALUES(20,3,'accuracy','"28.13%"');
INSERT INTO "trial_user_attributes" VALUES(21,3,'latency','"0.0835 ms (0.0752 to 0.0919, predicted)"');
INSERT INTO "trial_user_attributes" VALUES(22,3,'latency_source','"predicted"');
INSERT INTO "trial_user_attributes" VALUES(23,3,'size_bytes','8354');
INSERT INTO "trial_user_attributes" VALUES(24,3,'onnx_sha256','"52b07acd556d70ca581e988797999ca84fa583fcd0d1c743ff2d0f05a1f5c61e"');
INSERT INTO "trial_user_attributes" VALUES(25,4,'worker','{"host": "vm", "machine": "3d1219c7 pid:[4026531836]", "pid": 10044, "started": "359369"}');
INSERT INTO "trial_user_attributes" VALUES(26,4,'key','"7efca66f7f8d73a2"');
INSERT INTO "trial_user_attributes" VALUES(27,4,'techniques','"none"');
INSERT INTO "trial_user_attributes" VALUES(28,4,'accuracy','"46.24%"');
INSERT INTO "trial_user_attributes" VALUES(29,4,'latency','"0.234 ms (0.21 to 0.257, predicted)"');
INSERT INTO "trial_user_attributes" VALUES(30,4,'latency_source','"predicted"');
INSERT INTO "trial_user_attributes" VALUES(31,4,'size_bytes','23382');
INSERT INTO "trial_user_attributes" VALUES(32,4,'onnx_sha256','"73d822c5681457979506b5e3a0d5e53beb3cd7ffa79ff36403b33aafa3604281"');
INSERT INTO "trial_user_attributes" VALUES(33,5,'worker','{"host": "vm", "machine": "3d1219c7 pid:[4026531836]", "pid": 10044, "started": "359369"}');
INSERT INTO "trial_user_attributes" VALUES(34,5,'key','"83c17aa73b89c312"');
INSERT INTO "trial_user_attributes" VALUES(35,5,'techniques','"none"');
INSERT INTO "trial_user_attributes" VALUES(36,5,'accuracy','"26.74%"');
INSERT INTO "trial_user_attributes" VALUES(37,5,'latency','"0.0882 ms (0.0794 to 0.097, predicted)"');
INSERT INTO "trial_user_attributes" VALUES(38,5,'latency_source','"predicted"');
INSERT INTO "trial_user_attributes" VALUES(39,5,'size_bytes','8818');
INSERT INTO "trial_user_attributes" VALUES(40,5,'onnx_sha256','"1e04c55f74b1f7dbc123a84acc8b833da14659c856d45606fd148dc0e762c3e0"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,3.39832869080779920167e-01,'FINITE');
INSERT INTO "trial_values" VALUES(2,1,1,0.18259,'FINITE');
INSERT INTO "trial_values" VALUES(3,2,0,3.4818941504178274604e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,2,1,0.18387,'FINITE');
INSERT INTO "trial_values" VALUES(5,3,0,2.81337047353760472123e-01,'FINITE');
INSERT INTO "trial_values" VALUES(6,3,1,0.08354,'FINITE');
INSERT INTO "trial_values" VALUES(7,4,0,4.6239554317548747786e-01,'FINITE');
INSERT INTO "trial_values" VALUES(8,4,1,2.33820000000000027817e-01,'FINITE');
INSERT INTO "trial_values" VALUES(9,5,0,2.67409470752089151179e-01,'FINITE');
INSERT INTO "trial_values" VALUES(10,5,1,8.81800000000000083755e-02,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-23 16:22:48.903175','2026-11-23 16:22:55.819864');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-23 16:22:55.855858','2026-11-23 16:22:58.451950');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-23 16:22:58.468479','2026-11-23 16:22:58.717669');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-23 16:22:58.737814','2026-11-23 16:22:58.906040');
INSERT INTO "trials" VALUES(5,4,1,'COMPLETE','2026-11-23 16:22:58.932769','2026-11-23 16:22:59.170899');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE INDEX ix_nas_edge_calibrations_fingerprint ON nas_edge_calibrations (fingerprint);
CREATE INDEX ix_nas_edge_audits_study ON nas_edge_audits (study);
COMMIT;
