-- footfall is ours; footfall_v1 is the contract for downstream services.
CREATE DATABASE IF NOT EXISTS footfall;
CREATE DATABASE IF NOT EXISTS footfall_v1;
